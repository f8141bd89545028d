"""From a list of concepts to CoProV2, a versioned preference dataset.

Each room is a package with `spec` and one function that makes its partitions: taxonomy, prompts,
images, scores, pairs, index, release. What is in an `__all__` is stable.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
