"""Folds a LoRA file into the weights of a diffusers pipe, and undoes it exactly."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers.utils import logging
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_data.engines.families.registry import family_of

_NAME = "folded"


def fold_in(pipe: Pipe, adapter: Path) -> Callable[[], None]:
    """Add a LoRA's delta to the denoiser's weights.

    Args:
        pipe: its denoiser is modified.
        adapter: a safetensors file in diffusers' format.

    Returns:
        A function that restores the old weights, bit for bit.

    Raises:
        EngineError: the file cannot be read, does not fit, or changes more than the denoiser.
    """
    part = family_of(pipe).denoiser
    _check(adapter, part)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns that the text encoder has no adapter
    try:
        pipe.load_lora_weights(str(adapter.parent), weight_name=adapter.name, adapter_name=_NAME)
    except (ValueError, RuntimeError, KeyError) as error:
        pipe.unload_lora_weights()  # some layers may have the adapter already
        raise EngineError(f"{adapter} does not fit this model: {error}") from error
    finally:
        logging.set_verbosity(verbosity)
    denoiser = getattr(pipe, part)
    kept = {
        name: module.get_base_layer().weight.detach().clone()  # pyright: ignore[reportCallIssue]
        for name, module in denoiser.named_modules()
        if isinstance(module, BaseTunerLayer)
    }
    pipe.fuse_lora(components=[part], adapter_names=[_NAME])
    with warnings.catch_warnings():
        # It warns that the delta stays in the weights, which is the purpose.
        warnings.simplefilter("ignore")
        pipe.unload_lora_weights()

    def restore() -> None:
        with torch.no_grad():
            for name, weight in kept.items():
                denoiser.get_parameter(f"{name}.weight").copy_(weight)

    return restore


def _check(adapter: Path, part: str) -> None:
    try:
        with safe_open(adapter, framework="pt") as weights:
            names = list(weights.keys())
    except (OSError, SafetensorError) as error:
        raise EngineError(f"{adapter} is not a readable safetensors file: {error}") from error
    foreign = [name for name in names if not name.startswith(f"{part}.")]
    if foreign or not names:
        raise EngineError(f"{adapter} is not a LoRA of a {part} only: {foreign[:3]}")
