"""From a release to one safety LoRA and its numbers: encodings, experts, merge, evaluation.

What is in an `__all__` is stable; see also `alignguard_data`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
