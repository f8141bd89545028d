from .config import HardeningConfig
from .found import Findings, findings
from .room import Continuation, make_hardened, spec

__all__ = [
    "Continuation",
    "Findings",
    "HardeningConfig",
    "findings",
    "make_hardened",
    "spec",
]
