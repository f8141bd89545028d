"""Room `merge`: one adapter from many experts, by Co-Merge or by a baseline."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
