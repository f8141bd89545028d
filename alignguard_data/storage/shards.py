"""Atomic file writes, and Parquet shards with deterministic bytes."""

import hashlib
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignguard_data.contracts.errors import IntegrityError, StorageError
from alignguard_data.storage.places import Place, local_copy, scratch, size
from alignguard_data.storage.writes import put_file

Tables = pa.Table | Iterable[pa.Table]
"""One table, or at least one table of the same schema."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFile:
    """One file of a manifest; the name is relative to the manifest's folder."""

    name: str
    rows: int
    bytes: int
    sha256: str


@contextmanager
def atomic_file(path: Place) -> Generator[Path]:
    """Yield a temporary local path that durably replaces ``path`` on success.

    Args:
        path: the file to write.

    Yields:
        A path in the same folder, or a local one for a bucket.

    Raises:
        StorageError: the disk or bucket refuses the write (full, read-only, ...).
    """
    temporary = scratch(path).with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        put_file(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Place, content: bytes) -> None:
    """Write a file atomically.

    Args:
        path: the file.
        content: its bytes.

    Raises:
        StorageError: the disk or the bucket refused.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_shard(path: Path, table: Tables, **options: Any) -> ShardFile:
    """Write one local Parquet shard atomically.

    A column named ``image`` is not compressed, since PNGs are. Each of several tables becomes a row
    group, with one in memory at a time.

    Args:
        path: the file.
        table: the rows, as one table or an iterator of tables of one schema.
        **options: for ``pyarrow.parquet``.

    Returns:
        Name, rows, size and sha256, for a manifest.

    Raises:
        StorageError: the disk refused the write.
    """
    tables: Iterator[Any] = iter([table] if isinstance(table, pa.Table) else table)
    first, rows = next(tables), 0
    compression: Any = {
        name: "none" if pa.types.is_binary(first.schema.field(name).type) else "zstd"
        for name in first.column_names
    }
    with (
        atomic_file(path) as temporary,
        pq.ParquetWriter(
            temporary,
            first.schema,
            compression=compression,
            store_schema=False,
            write_page_checksum=True,  # single-column reads cannot check the file's hash
            **options,
        ) as writer,
    ):
        for part in chain([first], tables):
            writer.write_table(part)
            rows += part.num_rows
    return describe(path, rows=rows)


def describe(path: Path, *, rows: int, relative_to: Path | None = None) -> ShardFile:
    """Describe a new file for a manifest.

    Args:
        path: a local file.
        rows: its number of rows; 0 if it is no table.
        relative_to: folder that the name is relative to; by default the file's own.

    Returns:
        Name, rows, size and sha256.
    """
    name = path.relative_to(relative_to).as_posix() if relative_to else path.name
    return ShardFile(name=name, rows=rows, bytes=path.stat().st_size, sha256=sha256_file(path))


def sha256_file(path: Path) -> str:
    """Hash a file, read in chunks.

    Args:
        path: a local file.

    Returns:
        sha256 (hex).
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def verify_file(folder: Place, expected: ShardFile) -> None:
    """Check one file's presence, size and hash against its manifest entry.

    Args:
        folder: folder of the manifest.
        expected: the manifest's entry.

    Raises:
        IntegrityError: the file differs; names it and the difference.
    """
    try:
        with verified_file(folder, expected):
            pass
    except FileNotFoundError as error:
        raise IntegrityError(f"{folder / expected.name} is missing") from error


@contextmanager
def verified_file(folder: Place, expected: ShardFile) -> Generator[Path]:
    """Yield a verified local path of a manifest's file.

    Args:
        folder: folder of the manifest.
        expected: the manifest's entry.

    Yields:
        The file itself if local, else a copy.

    Raises:
        FileNotFoundError: it is not there.
        IntegrityError: the file differs; names it and the difference.
    """
    path = folder / expected.name
    with local_copy(path) as copy:
        found = size(copy)
        if found is None:
            raise FileNotFoundError(path)
        if found != expected.bytes:
            raise IntegrityError(f"{path} has {found} bytes, its manifest says {expected.bytes}")
        digest = sha256_file(copy)
        if digest != expected.sha256:
            raise IntegrityError(
                f"{path} has sha256 {digest}, its manifest says {expected.sha256}: "
                "it was changed after it was written; delete the partition's folder and run again"
            )
        yield copy
