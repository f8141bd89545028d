"""Stable Diffusion 1.5, and every UNet with one text encoder that is not 2.1's."""

from collections.abc import Mapping
from typing import Any

from alignguard_data.engines.families.unet import UNetFamily


class StableDiffusion15(UNetFamily):
    """CLIP ViT-L/14 (width 768), native at 512 pixels."""

    name = "sd15"
    pipe_class = "StableDiffusionPipeline"
    editing_class = "StableDiffusionImg2ImgPipeline"
    loading: Mapping[str, Any] = {"safety_checker": None, "requires_safety_checker": False}
