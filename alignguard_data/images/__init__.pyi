from .config import EditedPairs
from .editing import Editing
from .room import edit_pairs, render_pairs, spec

__all__ = [
    "EditedPairs",
    "Editing",
    "edit_pairs",
    "render_pairs",
    "spec",
]
