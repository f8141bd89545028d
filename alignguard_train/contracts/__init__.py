"""Code shared by the training rooms: recipes, names of adapters, noise."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
