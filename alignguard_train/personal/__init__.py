"""Personal safety: users with profiles and bans, and one adapter that draws by them (PSA)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
