"""The stand-in world: harmless scenes and glyphs, a tiny Stable Diffusion, a writer and scorers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
