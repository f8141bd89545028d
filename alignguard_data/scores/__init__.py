"""Room `scores`: raw numbers for every image and pair.

With the scorers, the image features, and the calibration of thresholds.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
