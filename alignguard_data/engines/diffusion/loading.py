"""Loads Stable Diffusion checkpoints (1.5, 2.1, XL) from safetensors only, frozen."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_data.engines.pickled import pickled_weights


def load_pipeline(
    model: str,
    *,
    revision: str | None,
    device: str,
    dtype: str,
    vae: str | None = None,
    vae_revision: str | None = None,
) -> Pipe:
    """Load a checkpoint from safetensors only, with frozen weights; also used in training.

    Args:
        model: folder or hub id of a Stable Diffusion (XL) pipe; its model_index.json says which.
        revision: commit of a hub id.
        device: ``auto`` or a torch device.
        dtype: ``auto`` or a torch dtype's name.
        vae: folder or hub id of another VAE (SDXL's own overflows in float16).
        vae_revision: commit of that hub id.

    Raises:
        EngineError: the checkpoint is missing, of another kind, or has no safetensors.
    """
    where = torch.device(_best_device() if device == "auto" else device)
    precision = _best_dtype(where) if dtype == "auto" else getattr(torch, dtype)
    try:
        with _no_bars():
            kind, arguments = _kind(model, revision)
            if vae:
                arguments["vae"] = AutoencoderKL.from_pretrained(
                    vae, revision=vae_revision, dtype=precision, use_safetensors=True
                )
            pipe = kind.from_pretrained(
                model, revision=revision, dtype=precision, use_safetensors=True, **arguments
            )
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(
            f"{model} cannot be loaded as Stable Diffusion: {error}{_hint(model, revision)}"
        ) from error
    pipe.to(where)
    if precision == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(torch.float32)  # it overflows otherwise
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        network = getattr(pipe, name, None)
        if network is not None:
            network.requires_grad_(False).eval()
    return pipe


def _hint(model: str, revision: str | None) -> str:
    """Advice for a checkpoint that does not load."""
    if not Path(model).is_dir():
        return f" (asked for revision {revision}; `alignguard doctor` shows how to get weights)"
    pickled = pickled_weights(Path(model))
    if not pickled:
        return ""
    names = ", ".join(path.relative_to(model).as_posix() for path in pickled)
    return (
        f"; {names}: pickled weights can run code and are never loaded, "
        f"`alignguard convert-weights {model}` writes safetensors beside them"
    )


def _kind(model: str, revision: str | None) -> tuple[type[Pipe], dict[str, Any]]:
    """The class named in a checkpoint's model_index.json, and its own arguments."""
    found = DiffusionPipeline.load_config(model, revision=revision)
    name = found.get("_class_name") if isinstance(found, dict) else None
    if name == "StableDiffusionPipeline":
        return StableDiffusionPipeline, {"safety_checker": None, "requires_safety_checker": False}
    if name == "StableDiffusionXLPipeline":
        return StableDiffusionXLPipeline, {"add_watermarker": False}
    known = "StableDiffusionPipeline, StableDiffusionXLPipeline"
    raise EngineError(f"{model} is a {name}; this renders {known}")


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the libraries' loading bars."""
    libraries = (diffusers_logging, transformers_logging)
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.float16
