"""Room `taxonomy`: the validated list of concepts that the model must not draw."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
