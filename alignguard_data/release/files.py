"""Writes a release's Parquet files: bounded row groups and files, deterministic bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignguard_data.contracts.errors import StorageError
from alignguard_data.storage.shards import ShardFile, describe


class SplitWriter:
    """Writes one split's rows as ``data/<split>-00000-of-000NN.parquet``.

    A row group holds at most ``row_group_bytes`` of image bytes, a file at most ``max_file_bytes``.
    The files do not depend on how rows are batched.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        schema: pa.Schema,
        *,
        row_group_bytes: int,
        max_file_bytes: int,
    ) -> None:
        self._folder = folder
        self._split = split
        self._schema = schema
        self._row_group_bytes = row_group_bytes
        self._max_file_bytes = max_file_bytes
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._file_bytes = 0
        self._rows: list[int] = []  # per file so far

    def add(self, table: pa.Table) -> None:
        """Append rows of the writer's schema."""
        first = 0
        for i, size in enumerate(_image_bytes(table)):
            if self._pending_bytes and self._pending_bytes + size > self._row_group_bytes:
                self._pending.append(table.slice(first, i - first))
                self._flush()
                first = i
            self._pending_bytes += size
        self._pending.append(table.slice(first))

    def close(self) -> list[ShardFile]:
        """Write pending rows and name the files by number; at least one file.

        Returns:
            The files, in order.

        Raises:
            StorageError: the disk refused a write.
        """
        self._flush()
        if not self._rows:
            self._open()
        self._shut()
        total = len(self._rows)
        files = []
        for i, rows in enumerate(self._rows):
            final = self._folder / "data" / f"{self._split}-{i:05d}-of-{total:05d}.parquet"
            self._path(i).rename(final)
            files.append(describe(final, rows=rows, relative_to=self._folder))
        return files

    def _path(self, number: int) -> Path:
        return self._folder / "data" / f".{self._split}-{number:05d}.tmp"

    def _flush(self) -> None:
        table = pa.concat_tables([self._schema.empty_table(), *self._pending]).combine_chunks()
        size = self._pending_bytes
        self._pending, self._pending_bytes = [], 0
        if not table.num_rows:
            return
        if self._writer and self._file_bytes + size > self._max_file_bytes:
            self._shut()
        writer = self._writer or self._open()
        try:
            writer.write_table(table, row_group_size=table.num_rows)
        except OSError as error:
            raise StorageError(
                f"cannot write {self._path(len(self._rows) - 1)}: {error}"
            ) from error
        self._file_bytes += size
        self._rows[-1] += table.num_rows

    def _open(self) -> pq.ParquetWriter:
        path = self._path(len(self._rows))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet_writer(path, self._schema)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error}") from error
        self._file_bytes = 0
        self._rows.append(0)
        return self._writer

    def _shut(self) -> None:
        if self._writer:
            try:
                self._writer.close()
            except OSError as error:
                raise StorageError(f"cannot write {self._folder}: {error}") from error
        self._writer = None


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer with the release's options.

    Images are neither compressed (PNGs are already) nor in the statistics (which would put pictures
    in the footer). The page index lets a reader fetch single pages, and content-defined chunking
    lets a store deduplicate unchanged ones. No Arrow schema is stored, so consumers see plain
    Parquet types.
    """
    images = [field.name for field in schema if pa.types.is_binary(field.type)]
    others = [field.name for field in schema if field.name not in images]
    options: dict[str, Any] = {
        "compression": {n: "none" if n in images else "zstd" for n in schema.names},
        "use_dictionary": others,
        "write_statistics": others,
        "write_page_index": True,
        "use_content_defined_chunking": True,
        "store_schema": False,
    }
    return pq.ParquetWriter(path, schema, **options)


def write_single(folder: Path, name: str, table: pa.Table) -> ShardFile:
    """Write one small table as ``folder/name`` with the release's options.

    Args:
        folder: folder of the release.
        name: path in it.
        table: the rows.

    Returns:
        Name, rows, size and hash.

    Raises:
        StorageError: the disk refused a write.
    """
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with parquet_writer(path, table.schema) as writer:
            writer.write_table(table.combine_chunks())
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
    return describe(path, rows=table.num_rows, relative_to=folder)


def _image_bytes(table: pa.Table) -> Sequence[int]:
    total = pc.add(  # pyright: ignore[reportAttributeAccessIssue]
        pc.binary_length(table["jpg_0"]),  # pyright: ignore[reportAttributeAccessIssue]
        pc.binary_length(table["jpg_1"]),  # pyright: ignore[reportAttributeAccessIssue]
    )
    return total.to_pylist()
