"""Loads checkpoints of the known families from safetensors only, frozen."""

from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DiffusionPipeline

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_data.engines.families.family import Family
from alignguard_data.engines.families.registry import family_of, pipe_classes
from alignguard_data.engines.loading_bars import no_bars
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.pickled import pickled_weights


def load_pipeline(
    source: ModelSource, *, device: str, dtype: str, vae: ModelSource | None = None
) -> Pipe:
    """Load a checkpoint from safetensors only, with frozen weights; also used in training.

    Args:
        source: a pipe of a known family; its model_index.json says which.
        device: ``auto`` or a torch device.
        dtype: ``auto`` or a torch dtype's name.
        vae: another VAE (SDXL's own overflows in float16).

    Returns:
        The pipe in evaluation mode on the device; the VAE in float32 where its config asks for it.

    Raises:
        EngineError: the checkpoint is missing, of another kind, or has no safetensors.
    """
    where = torch.device(_best_device() if device == "auto" else device)
    precision = _best_dtype(where) if dtype == "auto" else getattr(torch, dtype)
    try:
        with no_bars():
            family, absent = _family(source)
            arguments = {**absent, **family.loading}
            if vae:
                arguments["vae"] = AutoencoderKL.from_pretrained(
                    **vae.arguments, dtype=precision, use_safetensors=True
                )
            pipe: Pipe = getattr(diffusers, family.pipe_class).from_pretrained(
                **source.arguments, dtype=precision, use_safetensors=True, **arguments
            )
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(
            f"{source.model} cannot be loaded as a diffusion model: {error}{_hint(source)}"
        ) from error
    pipe.to(where)
    if precision == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(torch.float32)  # it overflows otherwise
    found = family_of(pipe)
    found.check(pipe)
    for name in (found.denoiser, "vae", *found.text_encoders):
        if (part := getattr(pipe, name)) is not None:  # SD3.5 may leave out its T5
            part.requires_grad_(False).eval()
    return pipe


def _hint(source: ModelSource) -> str:
    """Advice for a checkpoint that does not load."""
    folder = source.folder
    if folder is None:
        asked = f"asked for revision {source.commit}"
        return f" ({asked}; `alignguard doctor` shows how to get weights)"
    pickled = pickled_weights(folder)
    if not pickled:
        return ""
    names = ", ".join(path.relative_to(folder).as_posix() for path in pickled)
    return (
        f"; {names}: pickled weights can run code and are never loaded, "
        f"`alignguard convert-weights {source.model}` writes safetensors next to them"
    )


def _family(source: ModelSource) -> tuple[Family, dict[str, None]]:
    """A family of the class that model_index.json names, and the parts that it leaves out."""
    loaded = DiffusionPipeline.load_config(**source.arguments)
    found: dict[str, Any] = loaded if isinstance(loaded, dict) else {}
    name, known = found.get("_class_name"), pipe_classes()
    if name not in known:
        raise EngineError(f"{source.model} is a {name}; this renders {', '.join(sorted(known))}")
    absent = {part: None for part, kind in found.items() if kind == [None, None]}
    return known[name], absent


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.float16
