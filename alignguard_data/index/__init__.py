"""Room `index`: a DuckDB file over all shards, rebuildable at any time, and queries over it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
