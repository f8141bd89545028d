"""GuardT2I: what does the text embedding say, and is it what was typed?"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
