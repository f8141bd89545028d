from .family import Family
from .registry import family_of

__all__ = [
    "Family",
    "family_of",
]
