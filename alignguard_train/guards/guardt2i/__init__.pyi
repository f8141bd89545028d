from .guard import GuardT2I
from .similarity import SentenceSimilarity, WordOverlap

__all__ = [
    "GuardT2I",
    "SentenceSimilarity",
    "WordOverlap",
]
