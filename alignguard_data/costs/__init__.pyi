from .flops import ModelFlops, count_model
from .gpus import Gpu, gpu_named

__all__ = [
    "Gpu",
    "ModelFlops",
    "count_model",
    "gpu_named",
]
