"""Loads Stable Diffusion checkpoints (1.5, 2.1, XL) from safetensors only, frozen."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_data.engines.loading_bars import no_bars
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.pickled import pickled_weights


def load_pipeline(
    source: ModelSource, *, device: str, dtype: str, vae: ModelSource | None = None
) -> Pipe:
    """Load a checkpoint from safetensors only, with frozen weights; also used in training.

    Args:
        source: a Stable Diffusion (XL) pipe; its model_index.json says which.
        device: ``auto`` or a torch device.
        dtype: ``auto`` or a torch dtype's name.
        vae: another VAE (SDXL's own overflows in float16).

    Raises:
        EngineError: the checkpoint is missing, of another kind, or has no safetensors.
    """
    where = torch.device(_best_device() if device == "auto" else device)
    precision = _best_dtype(where) if dtype == "auto" else getattr(torch, dtype)
    try:
        with no_bars():
            kind, arguments = _kind(source)
            if vae:
                arguments["vae"] = AutoencoderKL.from_pretrained(
                    **vae.arguments, dtype=precision, use_safetensors=True
                )
            pipe = kind.from_pretrained(
                **source.arguments, dtype=precision, use_safetensors=True, **arguments
            )
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(
            f"{source.model} cannot be loaded as Stable Diffusion: {error}{_hint(source)}"
        ) from error
    pipe.to(where)
    if precision == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(torch.float32)  # it overflows otherwise
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        network = getattr(pipe, name, None)
        if network is not None:
            network.requires_grad_(False).eval()
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
        f"`alignguard convert-weights {source.model}` writes safetensors beside them"
    )


def _kind(source: ModelSource) -> tuple[type[Pipe], dict[str, Any]]:
    """The class named in a checkpoint's model_index.json, and its own arguments."""
    found = DiffusionPipeline.load_config(**source.arguments)
    name = found.get("_class_name") if isinstance(found, dict) else None
    if name == "StableDiffusionPipeline":
        return StableDiffusionPipeline, {"safety_checker": None, "requires_safety_checker": False}
    if name == "StableDiffusionXLPipeline":
        return StableDiffusionXLPipeline, {"add_watermarker": False}
    known = "StableDiffusionPipeline, StableDiffusionXLPipeline"
    raise EngineError(f"{source.model} is a {name}; this renders {known}")


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.float16
