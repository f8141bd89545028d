from .card import adapter_metadata, expert_metadata
from .live import LiveAdapter, live_adapter
from .lora import (
    LoraLayer,
    layer_errors,
    load_kohya,
    load_lora,
    relative_error,
    save_kohya,
    save_lora,
    scaled,
    truncate,
)

__all__ = [
    "LiveAdapter",
    "LoraLayer",
    "adapter_metadata",
    "expert_metadata",
    "layer_errors",
    "live_adapter",
    "load_kohya",
    "load_lora",
    "relative_error",
    "save_kohya",
    "save_lora",
    "scaled",
    "truncate",
]
