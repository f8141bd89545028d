from .counting import Counted
from .protocol import Attack, Budget, Candidate, Case, Counters, Found, Target

__all__ = [
    "Attack",
    "Budget",
    "Candidate",
    "Case",
    "Counted",
    "Counters",
    "Found",
    "Target",
]
