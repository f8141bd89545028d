from .controls import NoAttack, RandomK, RandomN, Shuffle
from .diffzoo import DiffZOO
from .ring_a_bell import RingABell, RingABellSoft

__all__ = ["DiffZOO", "NoAttack", "RandomK", "RandomN", "RingABell", "RingABellSoft", "Shuffle"]
