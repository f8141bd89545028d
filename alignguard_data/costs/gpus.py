"""Data-sheet numbers of GPUs: dense 16-bit tensor peak and memory."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """Dense peaks of a GPU in TFLOP/s, and its memory.

    Attributes:
        tflops: bf16 (fp16 on T4).
        tf32: TensorFloat-32, absent on T4.
        float32: without tensor cores.
        gib: memory.
    """

    tflops: float
    tf32: float
    float32: float
    gib: int

    def peak(self, dtype: str) -> float:
        """Look up the peak in one precision.

        Args:
            dtype: precision as a profile names it; 16-bit for any other name.

        Returns:
            TFLOP/s.
        """
        return {"tf32": self.tf32, "float32": self.float32}.get(dtype, self.tflops)


GPUS = {
    "t4": Gpu(tflops=65, tf32=8.1, float32=8.1, gib=16),
    "l4": Gpu(tflops=121, tf32=60, float32=30.3, gib=24),
    "a10": Gpu(tflops=125, tf32=62.5, float32=31.2, gib=24),
    "rtx3090": Gpu(tflops=71, tf32=35.6, float32=35.6, gib=24),
    "rtx4090": Gpu(tflops=165, tf32=82.6, float32=82.6, gib=24),
    "l40s": Gpu(tflops=362, tf32=183, float32=91.6, gib=48),
    "a100": Gpu(tflops=312, tf32=156, float32=19.5, gib=80),
    "h100": Gpu(tflops=989, tf32=494, float32=67, gib=80),
    "h200": Gpu(tflops=989, tf32=494, float32=67, gib=141),
    "b200": Gpu(tflops=2250, tf32=1125, float32=75, gib=180),
}


def gpu_named(name: str) -> Gpu | None:
    """Find a GPU by its driver's name.

    Args:
        name: for example ``NVIDIA A100-SXM4-80GB``.

    Returns:
        Its peaks and memory; None if it is unknown.
    """
    words = re.sub(r"\brtx\s+", "rtx", name.casefold())
    # Whole words only: A10 is not A100, L4 is not L40 or L40S.
    fits = [key for key in GPUS if re.search(rf"\b{key}(?![0-9s])", words)]
    return GPUS[max(fits, key=len)] if fits else None
