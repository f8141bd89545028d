"""Encoded prompts: text states, and pooled states of the families that have them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """Encoded prompts, one row each.

    Attributes:
        states: text states (rows, tokens, width).
        pooled: pooled states (rows, width), for example SDXL's; None for families without.
    """

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
        """Repeat the single row.

        Args:
            rows: how often.

        Returns:
            ``rows`` equal rows, as a view of this one.
        """
        return Conditions(
            states=self.states.expand(rows, -1, -1),
            pooled=None if self.pooled is None else self.pooled.expand(rows, -1),
        )

    def replaced(self, rows: Tensor, other: "Conditions") -> "Conditions":
        """Rows of ``other`` where ``rows`` is true, else these rows.

        Args:
            rows: a mask, bool (rows,).
            other: one row for all, or as many rows as these.

        Returns:
            As many rows as these.
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


def concatenated(parts: Sequence[Conditions]) -> Conditions:
    """Concatenate all rows."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Conditions(
        states=torch.cat([part.states for part in parts]),
        pooled=torch.cat(pooled) if pooled else None,
    )
