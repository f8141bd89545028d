"""Exports a release in tiers with and without images, and in the formats of trainers.

An export is written under a temporary name and renamed, with one row group in memory at a time.
Equal releases give equal bytes. Each export has a manifest, a card and Croissant metadata for its
files.
"""

import dataclasses
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from alignguard_data.contracts.errors import ConfigError, ReleaseRefused, StorageError
from alignguard_data.release.card import render_card
from alignguard_data.release.checks import read_manifest, verify_release
from alignguard_data.release.croissant import CROISSANT, croissant_bytes
from alignguard_data.release.files import parquet_writer
from alignguard_data.storage.manifest import MANIFEST
from alignguard_data.storage.parquet_files import open_parquet
from alignguard_data.storage.places import Place, list_folder, local_copy
from alignguard_data.storage.shards import ShardFile, describe, write_bytes

TIERS = ("card", "prompts", "full")
FORMATS = ("parquet", "csv", "webdataset", "pickapic-folder")
IMAGES = {"jpg_0": "0.png", "jpg_1": "1.png"}
PICKAPIC = ("jpg_0", "jpg_1", "label_0", "caption")
"""Columns read by DiffusionDPO and the AlignGuard authors' trainer."""
ROWS = 256
OLDER = {"licence": "", "flags": [], "scorers": [], "concept_checks": []}
"""Fields that are missing in manifests of early releases."""


def export_release(folder: Place, to: Path, *, tier: str, file_format: str) -> list[ShardFile]:
    """Export a part of a release in another format.

    Args:
        folder: folder of the release.
        to: folder to write, which must not exist.
        tier: how much of it, ``card``, ``prompts`` or ``full``.
        file_format: ``parquet``, ``csv``, ``webdataset`` or ``pickapic-folder``.

    Returns:
        The files, with sizes and hashes.

    Raises:
        ConfigError: the tier or format is unknown, the two cannot be combined, or ``to`` exists;
            all faults at once.
        ReleaseRefused: the release is not what its manifest says.
        StorageError: the disk refused a write.
    """
    _check(to, tier, file_format)
    if faults := verify_release(folder):
        raise ReleaseRefused("no export:\n" + "\n".join(f"  - {fault}" for fault in faults))
    temporary = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        _write(folder, temporary, tier, file_format)
        files = _describe_export(folder, temporary, tier, file_format)
        write_bytes(temporary / MANIFEST, _manifest(folder, tier, file_format, files))
        temporary.rename(to)
    except OSError as error:
        raise StorageError(f"cannot write {to}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return files


def _check(to: Path, tier: str, file_format: str) -> None:
    faults = []
    if tier not in TIERS:
        faults.append(f"--tier must be one of {', '.join(TIERS)} (got {tier!r})")
    if file_format not in FORMATS:
        faults.append(f"--format must be one of {', '.join(FORMATS)} (got {file_format!r})")
    if file_format in ("webdataset", "pickapic-folder") and tier in ("card", "prompts"):
        faults.append(f"--format {file_format} holds images, so it needs --tier full (got {tier})")
    if file_format == "csv" and tier == "full":
        faults.append("--format csv holds no images, so it goes with --tier prompts (got full)")
    if file_format == "pickapic-folder" and "pickapic" not in to.name:
        # The authors' trainer requires this word in the dataset's name.
        faults.append(f"--to: the folder's name must contain `pickapic` (got {to.name!r})")
    if to.exists():
        faults.append(f"--to: {to} exists already")
    if faults:
        raise ConfigError("export", faults)


def _write(folder: Place, to: Path, tier: str, file_format: str) -> None:
    plots = [f"plots/{path.name}" for path in list_folder(folder / "plots", "*.png")]
    for name in ("CHANGELOG.md", *plots):
        (to / name).parent.mkdir(exist_ok=True)
        _copy(folder / name, to / name)
    if tier == "card":
        return
    if tier == "prompts" or file_format == "parquet":
        (to / "prompts").mkdir()
        _copy(folder / "prompts/evaluation.parquet", to / "prompts/evaluation.parquet")
    writers: dict[str, Callable[[Path, Path, str], None]] = {
        "csv": _csv,
        "webdataset": _webdataset,
        "pickapic-folder": _pickapic,
        "parquet": _whole if tier == "full" else _text_only,
    }
    (to / "data").mkdir()
    for file in list_folder(folder / "data", "*.parquet"):
        with local_copy(file) as copy:
            writers[file_format](copy, to / "data", file.stem)


def _copy(source: Place, target: Path) -> None:
    with local_copy(source) as copy:
        shutil.copyfile(copy, target)


def _whole(file: Path, to: Path, stem: str) -> None:
    shutil.copyfile(file, to / f"{stem}.parquet")


def _text_only(file: Path, to: Path, stem: str) -> None:
    _columns(file, to / f"{stem}.parquet", lambda name: name not in IMAGES)


def _pickapic(file: Path, to: Path, stem: str) -> None:
    _columns(file, to / f"{stem}.parquet", lambda name: name in PICKAPIC)


def _columns(file: Path, target: Path, wanted: Callable[[str], bool]) -> None:
    with pq.ParquetFile(file) as source:
        schema = source.schema_arrow
        names = [name for name in schema.names if wanted(name)]
        with parquet_writer(target, pa.schema([schema.field(n) for n in names])) as writer:
            for i in range(source.num_row_groups):
                writer.write_table(source.read_row_group(i, columns=names))


def _csv(file: Path, to: Path, stem: str) -> None:
    with pq.ParquetFile(file) as source:
        names = [name for name in source.schema_arrow.names if name not in IMAGES]
        table = source.read(columns=names)
    pyarrow.csv.write_csv(table, to / f"{stem}.csv")


def _webdataset(file: Path, to: Path, stem: str) -> None:
    """Write one tar per data file: ``<pair_id>.0.png`` (safe), ``.1.png`` (unsafe), ``.json``."""
    with tarfile.open(to / f"{stem}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in _rows(file):
            identity = row["pair_id"]
            members = [(f"{identity}.{end}", row.pop(column)) for column, end in IMAGES.items()]
            text = json.dumps(row, sort_keys=True, ensure_ascii=False).encode()
            for name, content in [*members, (f"{identity}.json", text)]:
                info = tarfile.TarInfo(name)  # no owner or time, so equal rows give equal bytes
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(batch_size=ROWS):
            yield from batch.to_pylist()


def _describe_export(folder: Place, to: Path, tier: str, file_format: str) -> list[ShardFile]:
    """Write the export's card and Croissant metadata; returns all its files."""
    manifest = {**OLDER, **read_manifest(folder), "tier": tier}
    schema = None if tier == "card" else _exported_schema(folder, tier, file_format)
    extension = {"csv": ".csv", "webdataset": ".tar"}.get(file_format, ".parquet")
    plots = [f"plots/{path.name}" for path in sorted((to / "plots").glob("*.png"))]
    card = render_card(manifest, schema, extension=extension, plots=plots)
    write_bytes(to / "README.md", card.encode())
    names = sorted(p for p in to.rglob("*") if p.is_file())
    files = [describe(path, rows=0, relative_to=to) for path in names]
    described = [dataclasses.asdict(file) for file in files]
    write_bytes(to / CROISSANT, croissant_bytes(manifest, described, schema))
    return [*files, describe(to / CROISSANT, rows=0)]


def _exported_schema(folder: Place, tier: str, file_format: str) -> pa.Schema:
    schema = open_parquet(list_folder(folder / "data", "*.parquet")[0]).schema_arrow
    wanted = PICKAPIC if file_format == "pickapic-folder" else schema.names
    dropped = IMAGES if tier == "prompts" else ()
    return pa.schema([f for f in schema if f.name in wanted and f.name not in dropped])


def _manifest(folder: Place, tier: str, file_format: str, files: list[ShardFile]) -> bytes:
    release = read_manifest(folder)
    described = {
        "release": folder.name,
        "release_content_id": release["content_id"],
        "tier": tier,
        "format": file_format,
        "rows": release["rows"],
        "by_category": release["by_category"],
        "funnel": release["funnel"],
        "files": [{"name": f.name, "bytes": f.bytes, "sha256": f.sha256} for f in files],
    }
    return (json.dumps(described, indent=2, sort_keys=True) + "\n").encode()
