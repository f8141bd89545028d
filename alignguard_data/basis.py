"""What every room's fingerprint stands on besides its configuration and inputs.

Each ``spec`` calls :func:`basis`, so that none forgets the records' columns, the rules about
text, or the precision that it works in.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from alignguard_data import safety
from alignguard_data.records import schema_of
from alignguard_data.shard_records import SHARD_RECORDS


def basis(
    room: str, *, format: int, judges_text: bool = False, engine: object | None = None
) -> dict[str, Any]:
    """The part of a room's config that the code decides.

    Args:
        room: its records' columns are found by it.
        format: the room's own number, raised when its files change for equal input.
        judges_text: whether it applies the safety rules; then their version counts.
        engine: what computes; its ``numerics``, where it has them, say in which precision.
    """
    found: dict[str, Any] = {"format": format}
    if room in SHARD_RECORDS:
        found["records"] = _digest(room)
    if judges_text:
        found["safety"] = safety.VERSION
    numerics: Mapping[str, str] = getattr(engine, "numerics", {})
    return {"basis": {**found, **numerics}}


def _digest(room: str) -> str:
    """64-bit hash (hex) of the columns and types of a room's records."""
    schemas = {stem: str(schema_of(record)) for stem, record in SHARD_RECORDS[room].items()}
    return hashlib.blake2b(repr(sorted(schemas.items())).encode(), digest_size=8).hexdigest()
