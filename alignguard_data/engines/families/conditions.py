"""Encoded prompts: text states, and pooled states of the families that have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """``states`` (rows, tokens, width); ``pooled`` (rows, width), for example SDXL's."""

    states: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, rows: Tensor | slice) -> "Conditions":
        return Conditions(
            states=self.states[rows], pooled=None if self.pooled is None else self.pooled[rows]
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> "Conditions":
        """Move to a device and dtype."""
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return Conditions(states=self.states.to(device, dtype), pooled=pooled)

    def repeat(self, rows: int) -> "Conditions":
        """Repeat the single row ``rows`` times."""
        return Conditions(
            states=self.states.expand(rows, -1, -1),
            pooled=None if self.pooled is None else self.pooled.expand(rows, -1),
        )

    def replaced(self, rows: Tensor, other: "Conditions") -> "Conditions":
        """Rows of ``other`` where the mask ``rows`` (rows,) is true, else these rows.

        ``other`` has one row for all, or as many rows as these.
        """
        pooled = self.pooled
        if pooled is not None and other.pooled is not None:
            pooled = torch.where(rows[:, None], other.pooled, pooled)
        return Conditions(
            states=torch.where(rows[:, None, None], other.states, self.states), pooled=pooled
        )

    def tensors(self) -> dict[str, Tensor]:
        """What there is, by name, for a file."""
        found = {"states": self.states, "pooled": self.pooled}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def unet_arguments(self, *, height: int, width: int) -> dict[str, Any]:
        """Keyword arguments of a UNet for images of ``height`` x ``width`` pixels.

        SDXL's time ids are original size, crop offset and target size. Images are taken as neither
        cropped nor scaled, as the pipe does by default.
        """
        arguments: dict[str, Any] = {"encoder_hidden_states": self.states}
        if self.pooled is not None:
            ids = torch.tensor([height, width, 0, 0, height, width]).to(self.pooled)
            arguments["added_cond_kwargs"] = {
                "text_embeds": self.pooled,
                "time_ids": ids.repeat(len(self.states), 1),
            }
        return arguments


def concatenated(parts: Sequence[Conditions]) -> Conditions:
    """Concatenate all rows."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Conditions(
        states=torch.cat([part.states for part in parts]),
        pooled=torch.cat(pooled) if pooled else None,
    )
