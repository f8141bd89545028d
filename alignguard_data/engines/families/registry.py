"""The known families, and which one a pipe, a class or an adapter's layers belong to."""

from collections.abc import Iterable
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.families.family import Family
from alignguard_data.engines.families.sd15 import StableDiffusion15
from alignguard_data.engines.families.sd21 import StableDiffusion21
from alignguard_data.engines.families.sdxl import StableDiffusionXL

FAMILIES: tuple[Family, ...] = (StableDiffusionXL(), StableDiffusion21(), StableDiffusion15())
"""In the order in which a pipe is compared with them: the more particular first."""


def family_of(pipe: Any) -> Family:
    """The family of a loaded pipe.

    Args:
        pipe: a diffusers pipe.

    Returns:
        The first of :data:`FAMILIES` that recognises it.

    Raises:
        EngineError: it is of none.
    """
    for family in FAMILIES:
        if family.recognises(pipe):
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise EngineError(f"a {type(pipe).__name__} is of no known model family; there are {known}")


def pipe_classes() -> dict[str, Family]:
    """A family by the class that a checkpoint's model_index.json names; several may share it."""
    return {family.pipe_class: family for family in FAMILIES}


def denoisers() -> tuple[str, ...]:
    """The denoisers' names in pipes and LoRA files, each once."""
    return tuple(dict.fromkeys(family.denoiser for family in FAMILIES))


def denoiser_of(layers: Iterable[str]) -> str:
    """Name of the denoiser that has these layers.

    Args:
        layers: dotted names of modules, as in an adapter.

    Returns:
        The family's name for it; ``unet`` for layers of no known block.
    """
    blocks = {layer.partition(".")[0] for layer in layers}
    for family in FAMILIES:
        if blocks & set(family.blocks):
            return family.denoiser
    return "unet"
