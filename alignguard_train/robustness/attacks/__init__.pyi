from .concept_inversion import ConceptInversion
from .controls import NoAttack, RandomK, RandomN, Shuffle
from .diffzoo import DiffZOO
from .genbreak import GenBreak
from .genbreak_chat import GenBreakChat
from .guard_aware import GuardAware
from .mma import MMA
from .p4d import P4D
from .ring_a_bell import RingABell, RingABellSoft
from .sneaky import SneakyPrompt
from .unlearn_diff import UnlearnDiffAtk

__all__ = [
    "MMA",
    "P4D",
    "ConceptInversion",
    "DiffZOO",
    "GenBreak",
    "GenBreakChat",
    "GuardAware",
    "NoAttack",
    "RandomK",
    "RandomN",
    "RingABell",
    "RingABellSoft",
    "Shuffle",
    "SneakyPrompt",
    "UnlearnDiffAtk",
]
