from .controls import NoAttack, RandomK, RandomN, Shuffle
from .ring_a_bell import RingABell, RingABellSoft

__all__ = ["NoAttack", "RandomK", "RandomN", "RingABell", "RingABellSoft", "Shuffle"]
