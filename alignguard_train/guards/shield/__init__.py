"""A guard in the manner of T2VShield: rewrites and verifies prompts, and scans what is drawn."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
