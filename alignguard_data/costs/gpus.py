"""GPUs as their makers' data sheets state them: dense 16-bit tensor peak and memory."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """``tflops``: dense bf16 (fp16 on T4) peak in TFLOP/s; ``gib``: memory."""

    tflops: float
    gib: int


GPUS = {
    "t4": Gpu(tflops=65, gib=16),
    "l4": Gpu(tflops=121, gib=24),
    "a10": Gpu(tflops=125, gib=24),
    "rtx3090": Gpu(tflops=71, gib=24),
    "rtx4090": Gpu(tflops=165, gib=24),
    "l40s": Gpu(tflops=362, gib=48),
    "a100": Gpu(tflops=312, gib=80),
    "h100": Gpu(tflops=989, gib=80),
    "h200": Gpu(tflops=989, gib=141),
    "b200": Gpu(tflops=2250, gib=180),
}


def gpu_named(name: str) -> Gpu | None:
    """The GPU that a driver calls ``name`` (``NVIDIA A100-SXM4-80GB``), None where unknown."""
    words = re.sub(r"\brtx\s+", "rtx", name.casefold())
    # A10 is no A100, and L4 neither an L40 nor an L40S.
    fits = [key for key in GPUS if re.search(rf"\b{key}(?![0-9s])", words)]
    return GPUS[max(fits, key=len)] if fits else None
