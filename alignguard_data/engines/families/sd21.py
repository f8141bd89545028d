"""Stable Diffusion 2.1: 1.5's pipe with another text encoder, at 768 pixels."""

from typing import Any

from alignguard_data.engines.families.sd15 import StableDiffusion15

WIDTH = 1024
"""Of OpenCLIP ViT-H/14's text states."""


class StableDiffusion21(StableDiffusion15):
    """OpenCLIP ViT-H/14; the scheduler says whether the UNet predicts v or (2.1 base) the noise."""

    name = "sd21"

    def recognises(self, pipe: Any) -> bool:
        """By the width of the text states that the UNet takes."""
        return super().recognises(pipe) and pipe.unet.config.cross_attention_dim == WIDTH
