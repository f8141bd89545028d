"""Text conditions of a UNet: text states, and for SDXL pooled states and time ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

Pipe = StableDiffusionPipeline | StableDiffusionXLPipeline
"""The diffusers pipes that can render and be trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """``states`` (rows, tokens, width); ``pooled`` (rows, width) of SDXL's second encoder."""

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

    def unet_arguments(self, *, height: int, width: int) -> dict[str, Any]:
        """Keyword arguments of the UNet for images of ``height`` x ``width`` pixels.

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


@torch.no_grad()
def encode_texts(pipe: Pipe, prompts: Sequence[str]) -> Conditions:
    """Encode prompts with the pipe's own encoders."""
    device = pipe.unet.device
    if isinstance(pipe, StableDiffusionXLPipeline):
        states, _, pooled, _ = pipe.encode_prompt(
            list(prompts),  # pyright: ignore[reportArgumentType]  # it takes a list too
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return Conditions(states=states, pooled=pooled)
    return Conditions(states=pipe.encode_prompt(list(prompts), device, 1, False)[0])


def encode_unconditional(pipe: Pipe, negative_prompt: str = "") -> Conditions:
    """The unconditional row of classifier-free guidance; zeros for SDXL if the prompt is empty."""
    conditions = encode_texts(pipe, [negative_prompt])
    if not negative_prompt and getattr(pipe.config, "force_zeros_for_empty_prompt", False):
        assert conditions.pooled is not None
        return Conditions(
            states=torch.zeros_like(conditions.states), pooled=torch.zeros_like(conditions.pooled)
        )
    return conditions
