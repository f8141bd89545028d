"""Room `encodings`: latents and text states of a release, which every expert shares."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
