from .clip import ClipFeatures
from .inception import InceptionFeatures

__all__ = [
    "ClipFeatures",
    "InceptionFeatures",
]
