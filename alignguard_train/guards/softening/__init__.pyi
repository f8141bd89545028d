from .config import DualLatentSettings, SafreeSettings, SLDSettings
from .dual_latent import DualLatent
from .guards import PeerGuard

__all__ = ["DualLatent", "DualLatentSettings", "PeerGuard", "SLDSettings", "SafreeSettings"]
