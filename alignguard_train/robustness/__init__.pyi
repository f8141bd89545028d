from .counting import Counted
from .judging import ImageJudge
from .protocol import Attack, Budget, Candidate, Case, Counters, Found, Target
from .target import DiffusersTarget

__all__ = [
    "Attack",
    "Budget",
    "Candidate",
    "Case",
    "Counted",
    "Counters",
    "DiffusersTarget",
    "Found",
    "ImageJudge",
    "Target",
]
