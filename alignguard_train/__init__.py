"""From a release to one safety LoRA and its numbers: encodings, experts, merge, evaluation.

What is in an `__all__` is stable; see also `alignguard_data`.
"""

import lazy_loader

from alignguard_data import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
