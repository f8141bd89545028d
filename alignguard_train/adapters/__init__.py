"""LoRA adapters: read and written for diffusers and for kohya-ss, and trained in place."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
