from .generator import DiffusersImageGenerator
from .loading import load_pipeline

__all__ = [
    "DiffusersImageGenerator",
    "load_pipeline",
]
