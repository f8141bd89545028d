from .encoder import EncodedPreferences, Preferences, encode, load_preferences, stream_rows
from .room import shared_encodings, spec

__all__ = [
    "EncodedPreferences",
    "Preferences",
    "encode",
    "load_preferences",
    "shared_encodings",
    "spec",
    "stream_rows",
]
