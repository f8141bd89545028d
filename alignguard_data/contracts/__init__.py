"""Errors, records, sampling, flag rules, and the protocols of engines and scorers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
