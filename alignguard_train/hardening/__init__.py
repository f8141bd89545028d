"""Room `hardening`: adversarial prompts become lessons, and experts go on from their weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
