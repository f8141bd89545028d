"""Images per second of each `base_model.speed` option relative to none, on this device.

A tiny Stable Diffusion 1.5 of random weights at 64x64; options alternate, so other load affects all
alike. Unsupported kernels are skipped. A CPU's figures are the reasons in
``alignguard_data/engines/speed.py``; on other devices run this and set the profile's fields
accordingly.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.speed import Speed
from alignguard_data.standin.factory import base_model_folder
from benchmarks.tiny.diffusion import tiny_pipe

SAMPLING = Sampling(num_inference_steps=4, guidance_scale=7.5, width=64, height=64, batch_size=8)
IMAGES = 16
PLAIN: dict[str, Any] = {
    "compile": False,
    "attention": "native",
    "channels_last": False,
    "vae_slicing": False,
}
CHOICES: dict[str, dict[str, Any]] = {
    "attention_flash": {"attention": "flash"},
    "attention_efficient": {"attention": "efficient"},
    "attention_cudnn": {"attention": "cudnn"},
    "attention_math": {"attention": "math"},
    "channels_last": {"channels_last": True},
    "vae_slicing": {"vae_slicing": True},
    "vae_tiling": {"vae_tiling": True},
    "quantization_float8": {"quantization": "float8"},
    "compile": {"compile": True},
    "auto": dict.fromkeys(PLAIN, "auto"),
}


def measure(runs: int) -> dict[str, float]:
    """Medians over ``runs``.

    The plain rate, each choice's rate over it, and what compiling costs before the first image.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = CLIPTokenizer.from_pretrained(base_model_folder() / "tokenizer")
        tiny_pipe("epsilon", words).save_pretrained(Path(folder) / "tiny-sd15")
        sides = {"plain": _generator(folder, {})}
        sides |= {name: _generator(folder, choice) for name, choice in CHOICES.items()}
        first = {name: _first_seconds(side) for name, side in sides.items()}
        runnable = {name: side for name, side in sides.items() if first[name] is not None}
        taken: dict[str, list[float]] = {name: [] for name in runnable}
        for _ in range(runs):
            for name, side in runnable.items():
                taken[name].append(IMAGES / _seconds(side))
    plain = taken.pop("plain")
    figures = {"plain_images_per_second": statistics.median(plain)}
    for name, rates in taken.items():
        # Each run against the adjacent plain one.
        figures[f"{name}_over_plain"] = statistics.median(
            rate / base for rate, base in zip(rates, plain, strict=True)
        )
    if first["compile"] is not None and first["plain"] is not None:
        figures["compile_seconds_before_the_first_image"] = first["compile"] - first["plain"]
    return figures


def _generator(folder: str, choice: dict[str, Any]) -> DiffusersImageGenerator:
    return DiffusersImageGenerator(
        model=f"{folder}/tiny-sd15", sampling=SAMPLING, speed=Speed(**PLAIN | choice)
    )


def _first_seconds(side: DiffusersImageGenerator) -> float | None:
    """Seconds of the first rendering, which loads and compiles; None if it fails."""
    try:
        return _seconds(side)
    except EngineError:  # unsupported kernel
        return None
    except RuntimeError as error:
        from torch._inductor.exc import InvalidCxxCompiler

        if isinstance(error.__cause__ or error.__context__, InvalidCxxCompiler):
            return None  # no compiler
        raise


def _seconds(side: DiffusersImageGenerator) -> float:
    started = time.perf_counter()
    side.render(["a red circle on blue"] * IMAGES, list(range(IMAGES)))
    return time.perf_counter() - started
