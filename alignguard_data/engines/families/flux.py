"""FLUX.1: CLIP's pooled states, T5's states, and latents packed into tokens of 2 x 2."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alignguard_data.engines.families.conditions import Conditions
from alignguard_data.engines.families.mmdit import JOINT_TARGETS, FlowFamily

FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
T5_TOKENS = {True: 512, False: 256}
"""Tokens of the T5 encoder, for dev (with a guidance embedding) and for schnell."""
TIMES = 1000
"""The transformer's time is the scheduler's over this, as in diffusers' pipe."""


class Flux(FlowFamily):
    """FLUX.1 dev, which takes its guidance as an input, and schnell, which has none."""

    name = "flux"
    pipe_class = "FluxPipeline"
    transformer = "FluxTransformer2DModel"
    blocks: tuple[str, ...] = ("transformer_blocks", "single_transformer_blocks")
    text_encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2")
    distilled: bool = True
    lora_targets: tuple[str, ...] = (*JOINT_TARGETS, *FEED_FORWARD)

    def native_size(self, pipe: Any) -> int:
        """1024 for the published VAE: 128 latents a side, which no configuration says."""
        return pipe.default_sample_size * pipe.vae_scale_factor

    def latent_channels(self, denoiser: Any) -> int:
        """A token holds 2 x 2 of them."""
        return denoiser.config.in_channels // 4

    def encode(self, pipe: Any, prompts: Sequence[str]) -> Conditions:
        """States of T5, and CLIP's pooled states."""
        states, pooled, _ = pipe.encode_prompt(
            list(prompts),
            device=pipe.transformer.device,
            max_sequence_length=T5_TOKENS[bool(pipe.transformer.config.guidance_embeds)],
        )
        return Conditions(states=states, pooled=pooled)

    def arguments(
        self, denoiser: Any, conditions: Conditions, *, height: int, width: int
    ) -> dict[str, Any]:
        """Text states, pooled states, and the text tokens' place, which is 0.

        Image tokens get theirs when latents are packed.
        """
        del denoiser, height, width
        states = conditions.states
        return {
            "encoder_hidden_states": states,
            "pooled_projections": conditions.pooled,
            "txt_ids": torch.zeros(states.shape[1], 3, device=states.device, dtype=states.dtype),
        }

    def guidance(self, pipe: Any, scale: float, rows: int) -> dict[str, Any]:
        """The scale for dev's embedding; nothing for schnell, which is not guided either."""
        transformer = pipe.transformer
        if not transformer.config.guidance_embeds:
            return {}
        return {"guidance": torch.full((rows,), float(scale), device=transformer.device)}

    def spacing(self, steps: int) -> dict[str, Any]:
        """Evenly from 1 to 1 / steps, before the shift; ignores the scheduler's smallest share."""
        return {"sigmas": np.linspace(1.0, 1 / steps, steps)}

    def predict(self, denoiser: Any, latents: Tensor, t: Tensor, arguments: Any) -> Tensor:
        """The velocity, noise - image, unpacked."""
        height, width = latents.shape[2:]
        predicted = denoiser(
            packed(latents),
            timestep=t.expand(len(latents)).to(latents.dtype) / TIMES,
            img_ids=image_ids(height, width).to(latents),
            **arguments,
            return_dict=False,
        )[0]
        return unpacked(predicted, height, width)


def packed(latents: Tensor) -> Tensor:
    """Latents (rows, c, h, w) as tokens of 2 x 2: (rows, h/2 * w/2, 4 c)."""
    rows, channels, height, width = latents.shape
    cut = latents.reshape(rows, channels, height // 2, 2, width // 2, 2)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(rows, height // 2 * (width // 2), 4 * channels)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`packed`, to latents (rows, c, height, width)."""
    rows, _, numbers = tokens.shape
    cut = tokens.reshape(rows, height // 2, width // 2, numbers // 4, 2, 2)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(rows, numbers // 4, height, width)


def image_ids(height: int, width: int) -> Tensor:
    """Row and column of every token of latents of this size: (h/2 * w/2, 3), the first 0."""
    down, across = torch.arange(height // 2), torch.arange(width // 2)
    places = torch.cartesian_prod(torch.zeros(1, dtype=torch.long), down, across)
    return places.reshape(-1, 3)
