"""The DuckDB file that caches near-duplicate edges between releases.

It may be deleted at any time. Whatever is missing, damaged or of another version is computed again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import numpy as np

from alignguard_data.contracts import text
from alignguard_data.contracts.errors import StorageError
from alignguard_data.contracts.protocols import TextEmbedder
from alignguard_data.dedup.edges import Edge, Limits, NearEdges, Part
from alignguard_data.dedup.search import Connection, Vectors
from alignguard_data.storage import duckdb_files
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import scratch

SCHEMA = 1
"""Increment when a table, a key or the meaning of an edge changes."""
_VERSION = f"edges {SCHEMA}, text {text.VERSION}, duckdb {duckdb.__version__}"


def edges_file(data: DataRoot) -> Path:
    """The edges file of a profile, on this machine."""
    return scratch(data.base) / "duplicates" / "edges.duckdb"


@contextmanager
def synced_edges(
    file: Path, parts: Sequence[Part], limits: Limits, embedder: TextEmbedder | None
) -> Iterator[tuple[list[Edge], TextEmbedder | None]]:
    """Up-to-date edges among the rows of ``parts``.

    A damaged file, or one of another version, is replaced.

    Args:
        file: the DuckDB file.
        parts: all rows that there are.
        limits: which tests to run.
        embedder: needed for a cosine limit only.

    Yields:
        The sorted edges, and an embedder that reads the file's vectors inside the block (None
        without ``embedder``).

    Raises:
        PartitionBusy: another process has the file open.
        StorageError: the disk refused the write.
        ValueError: a cosine limit without an embedder.
    """
    try:
        connection, store, found = _synced(file, parts, limits, embedder)
    except _Damaged:
        _remove(file)
        connection, store, found = _synced(file, parts, limits, embedder)
    with connection:
        yield found, RememberingEmbedder(embedder, store) if embedder else None


def edges_between(
    parts: Sequence[Part], limits: Limits, embedder: TextEmbedder | None = None
) -> list[Edge]:
    """The edges of :func:`synced_edges`, computed in memory without the file.

    Args:
        parts: all rows.
        limits: which tests to run.
        embedder: needed for a cosine limit only.

    Returns:
        The edges, sorted.

    Raises:
        ValueError: a cosine limit without an embedder.
    """
    with duckdb.connect() as connection:
        store = NearEdges(connection, limits, embedder)
        store.sync(parts)
        return store.edges()


class RememberingEmbedder:
    """A ``TextEmbedder`` that calls another one only for texts without a stored vector.

    Args:
        embedder: the other one; name and version are its own.
        store: the edge store with the vectors.
    """

    def __init__(self, embedder: TextEmbedder, store: NearEdges) -> None:
        self.name, self.version = embedder.name, embedder.version
        self._embedder, self._store = embedder, store

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), width)."""
        known: dict[str, Vectors] = {}
        with suppress(duckdb.Error):  # an unreadable store counts as empty
            known = self._store.vectors_of(texts)
        absent = sorted(set(texts) - known.keys())
        if absent:
            known |= dict(zip(absent, self._embedder.embed(absent), strict=True))
        return np.stack([known[text] for text in texts])


class _Damaged(Exception):
    """The file was not written by this version and is rebuilt."""


def _synced(
    file: Path, parts: Sequence[Part], limits: Limits, embedder: TextEmbedder | None
) -> tuple[Connection, NearEdges, list[Edge]]:
    connection = _open(file)
    try:
        store = NearEdges(connection, limits, embedder)
        store.sync(parts)
        return connection, store, store.edges()
    except duckdb.Error as error:
        connection.close()
        if not duckdb_files.is_sound(file):
            raise _Damaged from error
        raise StorageError(
            f"cannot work with {file}, a cache that may be deleted: {error}"
        ) from error
    except BaseException:
        connection.close()
        raise


def _open(file: Path) -> Connection:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"cannot write {file.parent}: {error.strerror}") from error
    fresh = not file.exists()
    try:
        connection = duckdb_files.connect(file)
    except duckdb.Error as error:
        if fresh:
            raise StorageError(f"cannot write {file}: {error}") from error
        raise _Damaged from error
    if fresh:
        try:
            connection.execute("create table store as select ? as version", [_VERSION])
        except duckdb.Error as error:
            connection.close()
            raise StorageError(f"cannot write {file}: {error}") from error
        return connection
    try:
        versions = connection.execute("select version from store").fetchall()
    except duckdb.Error:  # another program's file, or an unfinished one
        versions = []
    if versions != [(_VERSION,)]:
        connection.close()
        raise _Damaged
    return connection


def _remove(file: Path) -> None:
    try:
        for path in (file, file.with_name(file.name + ".wal")):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}") from error
