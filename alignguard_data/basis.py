"""What every room's fingerprint stands on besides its configuration and inputs.

Each ``spec`` calls :func:`basis`, so that none forgets the records' columns, the rules about
text, or the precision that it works in.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from alignguard_data import safety
from alignguard_data.records import schema_of
from alignguard_data.shard_records import SHARD_RECORDS


def basis(
    room: str,
    *,
    format: int,
    judges_text: bool = False,
    engine: object | None = None,
    tables: Mapping[str, type | pa.Schema] | None = None,
) -> dict[str, Any]:
    """The part of a room's config that the code decides.

    Args:
        room: where ``SHARD_RECORDS`` has it, its records' columns are found by it.
        format: the room's own number, raised when its files change for equal input.
        judges_text: whether it applies the safety rules; then their version counts.
        engine: what computes; its ``numerics``, where it has them, say in which precision.
        tables: records or schemas by name of a room that is not in ``SHARD_RECORDS``.
    """
    found: dict[str, Any] = {"format": format}
    if written := {**SHARD_RECORDS.get(room, {}), **(tables or {})}:
        found["records"] = _digest(written)
    if judges_text:
        found["safety"] = safety.VERSION
    numerics: Mapping[str, str] = getattr(engine, "numerics", {})
    return {"basis": {**found, **numerics}}


def _digest(tables: Mapping[str, type | pa.Schema]) -> str:
    """64-bit hash (hex) of the columns and types of a room's tables."""
    schemas = {
        name: str(table if isinstance(table, pa.Schema) else schema_of(table))
        for name, table in tables.items()
    }
    return hashlib.blake2b(repr(sorted(schemas.items())).encode(), digest_size=8).hexdigest()
