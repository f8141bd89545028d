"""What an asset shows in the UI about one finished partition: numbers, paths and plots."""

import base64
from pathlib import Path

import dagster as dg

from alignguard_data.manifest import Manifest

MAX_INLINE_BYTES = 150_000
"""Metadata of more than about 200 KB a materialization makes the UI fail."""


def describe(manifest: Manifest, folder: Path) -> dict[str, dg.MetadataValue]:
    """Rows, rejections by reason, duration, content id and where the files are."""
    shown: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(manifest.rows),
        "rejected": dg.MetadataValue.int(sum(manifest.rejected.values())),
        "seconds": dg.MetadataValue.float(manifest.seconds),
        "content_id": dg.MetadataValue.text(manifest.content_id),
        "fingerprint": dg.MetadataValue.text(manifest.fingerprint),
        "folder": dg.MetadataValue.path(str(folder)),
        "bytes": dg.MetadataValue.int(sum(file.bytes for file in manifest.files)),
    }
    if manifest.rejected:
        shown["rejected_by_reason"] = _table("reason", manifest.rejected)
    if manifest.models:
        shown["models"] = _table("model", manifest.models)
    plain = {k: v for k, v in manifest.counts.items() if isinstance(v, int | float | str)}
    shown |= {name: _value(value) for name, value in plain.items() if name not in shown}
    return shown


def picture(png: bytes, title: str) -> dg.MetadataValue:
    """An inline picture, or a line that says where it stands when it is too large to inline.

    Pictures with unsafe images must be blurred before they come here.
    """
    if len(png) > MAX_INLINE_BYTES:
        return dg.MetadataValue.text(f"{title}: {len(png):,} bytes, see the partition's folder")
    return dg.MetadataValue.md(
        f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})"
    )


def _table(name: str, values: dict[str, int] | dict[str, str]) -> dg.MetadataValue:
    records = [dg.TableRecord({name: key, "value": str(value)}) for key, value in values.items()]
    return dg.MetadataValue.table(records)


def _value(value: float | str) -> dg.MetadataValue:
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    return (
        dg.MetadataValue.float(value) if isinstance(value, float) else dg.MetadataValue.int(value)
    )
