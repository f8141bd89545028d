"""Whether benign fine-tuning brings back what a safety adapter removed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
