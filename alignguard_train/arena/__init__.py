"""One table of every defence: what is left, what it costs, and which are on the Pareto front."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
