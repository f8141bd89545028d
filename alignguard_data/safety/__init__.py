"""Rules that no switch turns off, and the blur of unsafe images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
