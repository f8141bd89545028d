"""UI metadata of a finished partition: numbers, tables and plots.

The UI fails on a materialization over about 200 KB, so pictures share a budget. Callers must blur
unsafe images.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.places import Place

MAX_INLINE_BYTES = 120_000
"""Encoded size of all pictures; the rest of 200 KB is for tables."""

MAX_TABLE_ROWS = 40
MAX_TEXT = 300
"""Maximum characters of a cell or value."""

COLUMN_SCHEMA = "dagster/column_schema"
"""Metadata key that the UI reads an asset's columns from."""

_BAR = 24
_MEDIA = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def describe(manifest: Manifest, folder: Place) -> dict[str, dg.MetadataValue]:
    """Rows, rejections by reason, cost, content id and path."""
    shown: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(manifest.rows),
        "rejected": dg.MetadataValue.int(sum(manifest.rejected.values())),
        "seconds": dg.MetadataValue.float(manifest.seconds),
        "rows_per_second": dg.MetadataValue.float(_rate(manifest)),
        "content_id": dg.MetadataValue.text(manifest.content_id),
        "fingerprint": dg.MetadataValue.text(manifest.fingerprint),
        "folder": dg.MetadataValue.path(str(folder)),
        "bytes": dg.MetadataValue.int(sum(file.bytes for file in manifest.files)),
    }
    if "images" in manifest.counts and manifest.seconds:
        rate = manifest.counts["images"] / manifest.seconds
        shown["images_per_second"] = dg.MetadataValue.float(round(rate, 2))
    if manifest.models:
        shown["models"] = named_values("model", manifest.models)
    plain = {k: v for k, v in manifest.counts.items() if isinstance(v, int | float | str)}
    held = [(name, value) for name, value in plain.items() if name not in shown]
    shown |= {name: _value(value) for name, value in held[:MAX_TABLE_ROWS]}
    return shown


def partition_funnel(manifest: Manifest) -> dict[str, dg.MetadataValue]:
    """Rows that one partition kept and lost by reason, as a table and as bars."""
    rows = [("kept", manifest.rows), *sorted(manifest.rejected.items())]
    return funnel([(manifest.room, reason, n) for reason, n in rows])


def funnel(rows: Sequence[tuple[str, str, int]]) -> dict[str, dg.MetadataValue]:
    """Stage, reason and rows, as a table and as a text bar chart.

    Text needs no picture, so hundreds of partitions can have a chart.
    """
    held = rows[:MAX_TABLE_ROWS]
    records = [dg.TableRecord({"stage": s, "reason": r, "rows": n}) for s, r, n in held]
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn("stage"),
            dg.TableColumn("reason"),
            dg.TableColumn("rows", "int"),
        ]
    )
    return {
        "funnel": dg.MetadataValue.table(records, schema=schema),
        "funnel_chart": dg.MetadataValue.md(f"```\n{bars(held)}\n```"),
    }


def bars(rows: Sequence[tuple[str, str, int]]) -> str:
    """One line per row: name, bar relative to the stage's sum, number."""
    sums: dict[str, int] = {}
    for stage, _, count in rows:
        sums[stage] = sums.get(stage, 0) + count
    names = [f"{stage}: {reason}" for stage, reason, _ in rows]
    width = max(map(len, names), default=0)
    lines = []
    for name, (stage, _, count) in zip(names, rows, strict=True):
        filled = round(_BAR * count / sums[stage]) if sums[stage] else 0
        bar = "█" * (filled or (1 if count else 0))
        lines.append(f"{name:<{width}}  {bar:<{_BAR}}  {count:,}")
    return "\n".join(lines)


def named_values(name: str, values: Mapping[str, Any]) -> dg.MetadataValue:
    """A two-column table: ``name`` and value."""
    records = [
        dg.TableRecord({name: key[:MAX_TEXT], "value": str(value)[:MAX_TEXT]})
        for key, value in list(values.items())[:MAX_TABLE_ROWS]
    ]
    return dg.MetadataValue.table(records)


def table_schema(
    schema: pa.Schema, meanings: Mapping[str, str] | None = None, *, key: str = COLUMN_SCHEMA
) -> dict[str, dg.MetadataValue]:
    """Describe the columns of a table.

    Args:
        schema: its columns.
        meanings: description by column.
        key: of the metadata; by default that of the UI's "Columns" tab.

    Returns:
        One entry.
    """
    columns = [
        dg.TableColumn(
            field.name,
            str(field.type),
            description=(meanings or {}).get(field.name),
            constraints=dg.TableColumnConstraints(nullable=field.nullable),
        )
        for field in schema
    ]
    return {key: dg.MetadataValue.table_schema(dg.TableSchema(columns))}


def column_lineage(
    profile: str, sources: Mapping[str, Sequence[tuple[str, str]]]
) -> dict[str, dg.MetadataValue]:
    """Column to the assets and columns that it is copied or derived from."""
    deps = {
        column: [
            dg.TableColumnDep(asset_key=dg.AssetKey([profile, asset]), column_name=name)
            for asset, name in origins
        ]
        for column, origins in sources.items()
    }
    return {"dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(deps))}


def pictures(
    images: Mapping[str, bytes], budget: int = MAX_INLINE_BYTES
) -> dict[str, dg.MetadataValue]:
    """Inline pictures (PNG or JPEG) by name, as many as fit; a text line for each other."""
    shown: dict[str, dg.MetadataValue] = {}
    left = budget
    for name, content in sorted(images.items(), key=lambda item: len(item[1])):
        encoded = base64.b64encode(content).decode()
        if len(encoded) <= left:
            left -= len(encoded)
            media = next(kind for start, kind in _MEDIA.items() if content.startswith(start))
            shown[name] = dg.MetadataValue.md(f"![{name}](data:{media};base64,{encoded})")
        else:
            text = f"{len(content):,} bytes; see the partition's folder"
            shown[name] = dg.MetadataValue.text(text)
    return shown


def _rate(manifest: Manifest) -> float:
    return round(manifest.rows / manifest.seconds, 2) if manifest.seconds else 0.0


def _value(value: float | str) -> dg.MetadataValue:
    if isinstance(value, str):
        return dg.MetadataValue.text(value[:MAX_TEXT])
    return (
        dg.MetadataValue.float(value) if isinstance(value, float) else dg.MetadataValue.int(value)
    )
