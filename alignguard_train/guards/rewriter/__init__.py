"""A guard that writes the safe twin of a flagged prompt with a fine-tuned language model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
