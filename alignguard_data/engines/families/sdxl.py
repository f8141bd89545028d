"""Stable Diffusion XL: two text encoders, pooled states, and the image's size as a condition."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from alignguard_data.engines.families.conditions import Conditions
from alignguard_data.engines.families.unet import UNetFamily


class StableDiffusionXL(UNetFamily):
    """CLIP ViT-L/14 and OpenCLIP ViT-bigG/14, native at 1024 pixels."""

    name = "sdxl"
    pipe_class = "StableDiffusionXLPipeline"
    editing_class = "StableDiffusionXLImg2ImgPipeline"
    loading: Mapping[str, Any] = {"add_watermarker": False}
    text_encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2")

    def encode(self, pipe: Any, prompts: Sequence[str]) -> Conditions:
        """States of both encoders side by side, and the second's pooled states."""
        states, _, pooled, _ = pipe.encode_prompt(
            list(prompts),
            device=pipe.unet.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return Conditions(states=states, pooled=pooled)

    def encode_unconditional(self, pipe: Any, negative_prompt: str) -> Conditions:
        """Zeros for an empty text, if the checkpoint says so, as its own pipe does."""
        found = self.encode(pipe, [negative_prompt])
        if negative_prompt or not getattr(pipe.config, "force_zeros_for_empty_prompt", False):
            return found
        assert found.pooled is not None
        return Conditions(
            states=torch.zeros_like(found.states), pooled=torch.zeros_like(found.pooled)
        )

    def arguments(
        self, denoiser: Any, conditions: Conditions, *, height: int, width: int
    ) -> dict[str, Any]:
        """Text states, pooled states, and time ids: original size, crop offset and target size.

        Images are taken as neither cropped nor scaled, as the pipe does by default.
        """
        pooled = conditions.pooled
        assert pooled is not None
        ids = torch.tensor([height, width, 0, 0, height, width]).to(pooled)
        added = {"text_embeds": pooled, "time_ids": ids.repeat(len(conditions), 1)}
        return {
            **super().arguments(denoiser, conditions, height=height, width=width),
            "added_cond_kwargs": added,
        }
