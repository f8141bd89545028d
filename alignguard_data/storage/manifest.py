"""The manifest of a partition: its files, inputs, config and models; written last.

A partition is complete when its manifest exists. Files are in a generation folder named by the
fingerprint, so replacing the manifest atomically switches readers from the old files to the new
ones.
"""

import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignguard_data.contracts.errors import InputMissing, IntegrityError, StorageError
from alignguard_data.storage.parquet_files import read_columns
from alignguard_data.storage.places import Place, read_bytes, size
from alignguard_data.storage.shards import ShardFile, verified_file, verify_file, write_bytes

MANIFEST = "manifest.json"
WHOLE_FILE_BYTES = 1_000_000
"""Files up to this many bytes are fetched completely, which costs no more than requests for
parts."""
BUFFER = 2**20
"""Bytes of a column read at a time, instead of a full row group."""

log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "pyarrow", "nudenet", "numpy")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The files of a partition, and what they were made from.

    Attributes:
        room: name of the room.
        partition: key of the partition.
        fingerprint: 64-bit hash (hex) of configuration, models and inputs.
        content_id: 128-bit hash (hex) of the files' names and hashes.
        inputs: content id by the name of each input that was read.
        config: all settings that change the output.
        models: revision by model id.
        rows: rows of the first shard.
        rejected: number of dropped rows by reason slug.
        files: the partition's files.
        counts: further numbers of the room.
        versions: versions of the libraries that can change the output.
        run_id: the run that wrote it; empty outside Dagster.
        seconds: time that the last attempt took.
        digests: digests of parts of the rows, for rooms that read only those; see
            ``storage/basis.py``.
    """

    room: str
    partition: str
    fingerprint: str
    content_id: str
    inputs: dict[str, str]
    config: dict[str, Any]
    models: dict[str, str]
    rows: int
    rejected: dict[str, int]
    files: tuple[ShardFile, ...]
    counts: dict[str, Any]
    versions: dict[str, str]
    run_id: str
    seconds: float
    digests: dict[str, str] = dataclasses.field(default_factory=dict)

    def save(self, folder: Place, name: str = MANIFEST) -> None:
        """Write the manifest atomically.

        Args:
            folder: folder of the partition.
            name: file name in it.
        """
        text = json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"
        write_bytes(folder / name, text.encode())

    def file(self, stem: str) -> ShardFile:
        """The file of this name; ``.parquet`` may be left out.

        A file in a subfolder is named with it.

        Args:
            stem: name of a shard or an extra file, with its subfolder if it has one.

        Returns:
            Its name in the partition's folder, rows, bytes and hash.

        Raises:
            IntegrityError: the manifest has no such file.
        """
        for file in self.files:
            if file.name.partition("/")[2] in (stem, f"{stem}.parquet"):
                return file
        raise IntegrityError(f"the manifest of {self.room} {self.partition} names no {stem}")

    def verify(self, folder: Place) -> None:
        """Check size and sha256 of all files.

        Args:
            folder: folder of the partition.

        Raises:
            IntegrityError: a file is missing or differs; it is named.
        """
        for file in self.files:
            verify_file(folder, file)

    def faults(self, folder: Place) -> Iterator[str]:
        """Check all files as :meth:`verify` does, and continue after a fault.

        Args:
            folder: folder of the partition.

        Yields:
            One message per faulty file.
        """
        for file in self.files:
            try:
                verify_file(folder, file)
            except IntegrityError as error:
                yield str(error)


def load(folder: Place, name: str = MANIFEST) -> Manifest | None:
    """Read the manifest of a partition, if there is one.

    Args:
        folder: folder of the partition.
        name: file name in it.

    Returns:
        The manifest, or None if there is none.

    Raises:
        IntegrityError: the manifest is not valid JSON or lacks a field.
    """
    path = folder / name
    try:
        raw = json.loads(read_bytes(path))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} is not JSON: {error}") from error
    try:
        files = tuple(ShardFile(**file) for file in raw.pop("files"))
        return Manifest(files=files, **raw)
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is not a manifest: {error}") from error


def require(folder: Place) -> Manifest:
    """Read the manifest of a partition that must be complete.

    Args:
        folder: folder of the partition.

    Returns:
        The manifest.

    Raises:
        InputMissing: there is none.
        IntegrityError: it is not valid JSON or lacks a field.
    """
    manifest = load(folder)
    if manifest is None:
        raise InputMissing(
            f"{folder} has no {MANIFEST}: `alignguard run` makes it, or materialize it in Dagster"
        )
    return manifest


def read(folder: Place, stem: str, *, columns: list[str] | None = None) -> pa.Table:
    """Verify and read the shard ``stem`` of a complete partition.

    Of a large shard only ``columns`` are fetched, so reading prompts does not read images. Then
    only the size and the checksums of the read pages are checked; reading the images checks the
    full hash.

    Args:
        folder: folder of the partition.
        stem: name of the shard, without ``.parquet``.
        columns: columns to read; all by default.

    Returns:
        Rows in the order in which they were written.

    Raises:
        InputMissing: the partition has no manifest.
        IntegrityError: the file differs from its manifest; it is named.
    """
    try:
        return _read(folder, require(folder).file(stem), columns)
    except FileNotFoundError:
        # A writer may have replaced the generation between the two reads, so retry once.
        file = require(folder).file(stem)
        verify_file(folder, file)
        return _read(folder, file, columns)


def read_batches(folder: Place, stem: str, *, rows: int) -> Iterator[pa.Table]:
    """Verify the shard ``stem`` and read it in batches of ``rows`` rows.

    Args:
        folder: folder of the partition.
        stem: name of the shard, without ``.parquet``.
        rows: rows of a batch; the last one may have fewer.

    Yields:
        The batches in order, one in memory at a time.

    Raises:
        InputMissing: the partition has no manifest.
        IntegrityError: the file differs from its manifest; it is named.
    """
    file = require(folder).file(stem)
    try:
        with verified_file(folder, file) as path, pq.ParquetFile(path, buffer_size=BUFFER) as shard:
            for batch in shard.iter_batches(batch_size=rows):
                yield pa.Table.from_batches([batch])
    except FileNotFoundError as error:
        raise IntegrityError(f"{folder / file.name} is missing") from error


def _read(folder: Place, file: ShardFile, columns: list[str] | None) -> pa.Table:
    if columns and file.bytes > WHOLE_FILE_BYTES:
        try:
            return _fetched(folder / file.name, file, columns)
        except (StorageError, pa.ArrowInvalid) as error:
            log.warning("%s is read whole: %s", folder / file.name, error)
    with verified_file(folder, file) as path, pq.ParquetFile(path) as shard:
        return shard.read(columns=columns)


def _fetched(path: Place, file: ShardFile, columns: list[str]) -> pa.Table:
    found = size(path)
    if found is None:
        raise FileNotFoundError(path)
    if found != file.bytes:
        raise IntegrityError(f"{path} has {found} bytes, its manifest says {file.bytes}")
    return read_columns(path, columns)


def fingerprint(config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Hash a partition's configuration and inputs; equal hashes mean up to date.

    Args:
        config: all settings that change the output, as JSON values.
        inputs: content id by the name of the input.

    Returns:
        64-bit hash (hex).
    """
    text = json.dumps({"config": config, "inputs": inputs}, sort_keys=True, default=list)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def content_id(files: tuple[ShardFile, ...]) -> str:
    """Hash of the files' names and hashes.

    Equal content has an equal id, independent of time and place. Names include subfolders of the
    content, but not the generation folder.

    Args:
        files: a manifest's files, in any order.

    Returns:
        128-bit hash (hex).
    """
    text = json.dumps(sorted((file.name, file.sha256) for file in files))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a room's output."""
    found = {name: _installed(name) for name in _LIBRARIES}
    return {name: version for name, version in found.items() if version}


@functools.cache  # milliseconds each, for every manifest
def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
