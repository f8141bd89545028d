"""Room `release`: an immutable, versioned Parquet dataset.

Build, read, verify, diff, export, push, withdraw.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
