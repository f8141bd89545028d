"""Room `cost_model`: how unsafe an image looks, as one number with its border at 0."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
