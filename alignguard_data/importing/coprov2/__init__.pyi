from .room import Imported, import_coprov2

__all__ = [
    "Imported",
    "import_coprov2",
]
