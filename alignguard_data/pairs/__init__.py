"""Room `pairs`: which pairs can teach a preference, and the one reason why each other cannot."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
