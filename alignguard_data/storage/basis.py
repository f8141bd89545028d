"""The part of every room's fingerprint that does not come from its configuration.

Each ``spec`` calls :func:`basis`, which adds the records' columns, the safety rules and the
precision. A room that reads a part of another room's rows uses :func:`reads` instead of the content
id, so other rows do not make it stale.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from alignguard_data.contracts.records import schema_of
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.safety import rules as safety
from alignguard_data.storage.manifest import Manifest


def basis(
    room: str,
    *,
    format: int,
    judges_text: bool = False,
    engine: object | None = None,
    tables: Mapping[str, type | pa.Schema] | None = None,
) -> dict[str, Any]:
    """The part of a room's config that depends on the code.

    Args:
        room: name of the room; its record columns come from ``SHARD_RECORDS``.
        format: the room's format number, incremented when its files change for equal input.
        judges_text: whether it applies the safety rules, whose version is then included.
        engine: the engine; its ``numerics``, if any, give the precision.
        tables: records or schemas by name, for a room that is not in ``SHARD_RECORDS``.

    Returns:
        Entry ``basis`` of a spec's config, with all that the code decides.
    """
    found: dict[str, Any] = {"format": format}
    if written := {**SHARD_RECORDS.get(room, {}), **(tables or {})}:
        found["records"] = _digest(written)
    if judges_text:
        found["safety"] = safety.VERSION
    numerics: Mapping[str, str] = getattr(engine, "numerics", {})
    return {"basis": {**found, **numerics}}


def digests(rows: Iterable[tuple[str, Sequence[object]]]) -> dict[str, str]:
    """Hash each part's rows, in order.

    Args:
        rows: for each row its part, and the values that are read of it.

    Returns:
        128-bit hash (hex) by part.
    """
    found: dict[str, Any] = {}
    for part, values in rows:
        digest = found.setdefault(part, hashlib.blake2b(digest_size=16))
        digest.update(repr(list(values)).encode())
    return {part: digest.hexdigest() for part, digest in found.items()}


def reads(made: Manifest, parts: Iterable[str]) -> dict[str, str]:
    """Inputs of a partition that reads only some parts of another one's rows.

    Args:
        made: manifest of the partition that is read.
        parts: names of the parts, as in its ``digests``.

    Returns:
        Digest by part, or the content id if the other partition has no digests.
    """
    if not made.digests:
        return {made.room: made.content_id}
    return {f"{made.room}: {part}": made.digests.get(part, "") for part in parts}


def _digest(tables: Mapping[str, type | pa.Schema]) -> str:
    """64-bit hash (hex) of the column names and types of a room's tables."""
    schemas = {
        name: str(table if isinstance(table, pa.Schema) else schema_of(table))
        for name, table in tables.items()
    }
    return hashlib.blake2b(repr(sorted(schemas.items())).encode(), digest_size=8).hexdigest()
