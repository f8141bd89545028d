from .categories import CategoryNames
from .coprov2 import import_coprov2
from .imported import list_imports, read_audit, read_images, read_origins, read_pairs
from .records import ImportedImage, PairOrigin, RejectedRow

__all__ = [
    "CategoryNames",
    "ImportedImage",
    "PairOrigin",
    "RejectedRow",
    "import_coprov2",
    "list_imports",
    "read_audit",
    "read_images",
    "read_origins",
    "read_pairs",
]
