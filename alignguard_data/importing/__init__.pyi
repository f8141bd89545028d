from .categories import CategoryNames
from .coprov2 import import_coprov2
from .imported import list_imports, read_audit, read_images, read_origins, read_pairs

__all__ = [
    "CategoryNames",
    "import_coprov2",
    "list_imports",
    "read_audit",
    "read_images",
    "read_origins",
    "read_pairs",
]
