"""The known families, and which one a pipe, a class or an adapter's layers belong to."""

from collections.abc import Iterable
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.families.family import Family
from alignguard_data.engines.families.flux import Flux
from alignguard_data.engines.families.sd15 import StableDiffusion15
from alignguard_data.engines.families.sd21 import StableDiffusion21
from alignguard_data.engines.families.sd35 import StableDiffusion35
from alignguard_data.engines.families.sdxl import StableDiffusionXL

FAMILIES: tuple[Family, ...] = (
    StableDiffusionXL(), StableDiffusion21(), StableDiffusion15(), StableDiffusion35(), Flux(),
)  # fmt: skip
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
    raise EngineError(f"a {type(pipe).__name__} is of no known model family; known: {known}")


def check_size(pipe: Any, *, height: int, width: int) -> None:
    """Refuse images whose latents a pipe's denoiser cannot cut into tokens.

    Args:
        pipe: of a known family.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Raises:
        EngineError: a side is no multiple of what the denoiser needs, by its name and value.
    """
    family = family_of(pipe)
    if family.latent_multiple == 1:
        return
    sides = {"height": height, "width": width}
    unit = family.latent_multiple * pipe.vae_scale_factor
    if odd := [f"{name} {value}" for name, value in sides.items() if value % unit]:
        raise EngineError(
            f"{' and '.join(odd)} of images: {family.name} needs multiples of {unit} pixels, "
            f"whose latents can be cut into tokens of {family.latent_multiple} x "
            f"{family.latent_multiple}"
        )


def check_sampling(pipe: Any, sampling: Sampling) -> None:
    """Refuse sampling that a pipe cannot render with.

    Args:
        pipe: of a known family.
        sampling: size, solver, guidance and negative prompt.

    Raises:
        EngineError: latents of this size do not fit the denoiser, or a flow model has another
            solver than its own or, distilled, a negative prompt.
    """
    family = family_of(pipe)
    check_size(pipe, height=sampling.height, width=sampling.width)
    if not family.flow:
        return
    if sampling.solver != "checkpoint":
        raise EngineError(
            f"sampling.solver: {sampling.solver} is a solver of diffusion; {family.name} is a "
            "flow, `checkpoint` renders with its own"
        )
    if family.distilled and sampling.negative_prompt:
        raise EngineError(
            f"sampling.negative_prompt: {family.name} renders without classifier-free guidance, "
            f"so {sampling.negative_prompt!r} has no effect; leave it empty"
        )


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
