"""Checks over the rooms of one taxonomy: schemas, hashes, leaks, and a funnel that adds up."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
