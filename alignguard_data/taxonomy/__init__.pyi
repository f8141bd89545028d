from .parse import Category, Taxonomy, load_taxonomy
from .room import spec, write_taxonomy

__all__ = [
    "Category",
    "Taxonomy",
    "load_taxonomy",
    "spec",
    "write_taxonomy",
]
