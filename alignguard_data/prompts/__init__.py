"""Room `prompts`: an unsafe prompt and its safe twin, and the gate that a reply must pass."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
