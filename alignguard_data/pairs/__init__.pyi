from .config import FilterRules
from .room import filter_pairs, spec

__all__ = [
    "FilterRules",
    "filter_pairs",
    "spec",
]
