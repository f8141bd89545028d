"""What an asset shows in the UI about one finished partition: numbers, paths and plots."""

import base64
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from alignguard_data.manifest import Manifest

MAX_INLINE_BYTES = 150_000
"""Of all pictures together: over about 200 KB a materialization the UI fails."""


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


def pictures(pngs: Mapping[str, bytes]) -> dict[str, dg.MetadataValue]:
    """Inline pictures by name, as many as fit; a line for each that does not.

    Pictures with unsafe images must be blurred before they come here.
    """
    shown: dict[str, dg.MetadataValue] = {}
    left = MAX_INLINE_BYTES
    for name, png in sorted(pngs.items(), key=lambda item: len(item[1])):
        encoded = base64.b64encode(png).decode()
        if len(encoded) <= left:
            left -= len(encoded)
            shown[name] = dg.MetadataValue.md(f"![{name}](data:image/png;base64,{encoded})")
        else:
            shown[name] = dg.MetadataValue.text(f"{len(png):,} bytes; see the partition's folder")
    return shown


def _table(name: str, values: dict[str, int] | dict[str, str]) -> dg.MetadataValue:
    records = [dg.TableRecord({name: key, "value": str(value)}) for key, value in values.items()]
    return dg.MetadataValue.table(records)


def _value(value: float | str) -> dg.MetadataValue:
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    return (
        dg.MetadataValue.float(value) if isinstance(value, float) else dg.MetadataValue.int(value)
    )
