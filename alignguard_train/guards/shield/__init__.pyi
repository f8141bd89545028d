from .config import ShieldSettings
from .guard import Shield
from .scan import OutputScan

__all__ = ["OutputScan", "Shield", "ShieldSettings"]
