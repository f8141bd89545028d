from .room import render_pairs, spec

__all__ = [
    "render_pairs",
    "spec",
]
