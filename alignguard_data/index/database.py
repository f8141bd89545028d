"""Writes the index's DuckDB file: from scratch, or from a copy of the last one if little changed.

The copy is used only if its hash matches its manifest and its tables, views and DuckDB version are
the same. Its table ``manifests`` records the content id behind each partition's rows. Rows of other
content are deleted and read again, so the result equals a full build.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from alignguard_data.audit.funnel import Manifests
from alignguard_data.contracts.errors import IntegrityError, StorageError
from alignguard_data.index.tables import (
    SHARD_TABLES,
    Place,
    ShardTable,
    read_partitions,
    small_tables,
)
from alignguard_data.index.views import VIEWS
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage import places as storage
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionWork
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.shards import sha256_file
from alignguard_data.taxonomy.parse import Taxonomy

FILE = "index.duckdb"
REWRITTEN = "rewritten_rows"
"""Key of a manifest's ``counts``: rows inserted into copies since the last full build."""

MOST_CHANGED = 0.5
"""Above this share of changed partitions a full build is as fast, and its file is smaller."""

INSERTED_AT_ONCE = 250_000
"""Rows per insert: DuckDB writes row groups of 122,880 directly to the file; fewer rows go through
its log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """Result of a build: ``rows`` of each table, ``inserted`` rows of the partitions read."""

    how: str
    read: int
    taken_over: int
    inserted: int
    rewritten: int
    rows: dict[str, int]
    funnel: pa.Table


@dataclass(kw_only=True, slots=True)
class _Base:
    """The state of the file before reading: empty, or a copy.

    ``held``: content id by partition. ``rewritten``: see ``REWRITTEN``.
    """

    how: str
    held: dict[Place, str] = field(default_factory=dict)
    rewritten: int = 0


def write_database(
    work: PartitionWork, data: DataRoot, taxonomy: Taxonomy, found: Manifests
) -> tuple[Path, Written]:
    """Write ``FILE`` below ``work.partial`` with a few partitions in memory at a time.

    Args:
        work: the index's partition.
        data: the data folder.
        taxonomy: its concepts.
        found: manifest by room and concept key.

    Returns:
        The file, and what was written to it.

    Raises:
        IntegrityError: a shard differs from its manifest; it is named.
        StorageError: the file cannot be written.
    """
    # A killed build leaves a partial file: delete it rather than open it.
    shutil.rmtree(work.partial, ignore_errors=True)
    work.partial.mkdir(parents=True)
    file = work.partial / FILE
    base = _base(work, file, found)
    if not base.held:
        file.unlink(missing_ok=True)
    try:
        with duckdb.connect(str(file)) as connection:
            return file, _write(connection, base, data, taxonomy, found)
    except duckdb.IOException as error:
        raise StorageError(f"cannot write {file}: {error}") from error


def _base(work: PartitionWork, file: Path, found: Manifests) -> _Base:
    """Copy the last index to ``file`` if it can be reused; ``how`` says why not."""
    try:
        last = manifests.load(work.folder)
    except IntegrityError:
        return _Base(how="full: the last manifest cannot be read")
    if last is None:
        return _Base(how="full: there was no index")
    if last.config != json.loads(json.dumps(dict(work.spec.config))):
        return _Base(how="full: tables, views or DuckDB changed")
    if not _copied(work.folder, last, file):
        return _Base(how="full: the last file is not what its manifest says")
    held = _held(file)
    if held is None:
        return _Base(how="full: the last file cannot be opened")
    changed = sum(held.get(place) != manifest.content_id for place, manifest in found.items())
    if changed > MOST_CHANGED * len(found):
        return _Base(how=f"full: {changed} of {len(found)} partitions changed")
    if last.counts[REWRITTEN] > sum(last.counts["tables"].values()):
        return _Base(how="full: every row was replaced once since the last full build")
    return _Base(how="incremental", held=held, rewritten=last.counts[REWRITTEN])


def _copied(folder: storage.Place, last: Manifest, file: Path) -> bool:
    """Copy the file of ``last`` and check the copy's hash, in case the file is being written."""
    entry = last.file(FILE)
    source = folder / entry.name
    if storage.size(source) != entry.bytes:
        return False
    try:
        shutil.copyfile(str(source), file)  # the index lives on this machine
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror or error}") from error
    return sha256_file(file) == entry.sha256


def _held(file: Path) -> dict[Place, str] | None:
    """Content id by partition in the file; None if it is not an index."""
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            rows = connection.execute("select room, partition, content_id from manifests")
            return {(room, key): content_id for room, key, content_id in rows.fetchall()}
    except duckdb.Error:
        return None


def _write(
    connection: duckdb.DuckDBPyConnection,
    base: _Base,
    data: DataRoot,
    taxonomy: Taxonomy,
    found: Manifests,
) -> Written:
    if base.held:
        _forget(connection, base, found)
    else:
        for table in SHARD_TABLES:
            _create(connection, table.name, table.schema.empty_table())
    changed = [place for place, m in found.items() if base.held.get(place) != m.content_id]
    read, inserted = _insert(connection, data, changed, found)
    small = small_tables(data, taxonomy, {**found, **read})
    for name, content in small.items():
        _create(connection, name, content)
    for name, body in VIEWS.items():
        connection.execute(f'create or replace view "{name}" as {body}')
    rows = {table.name: _count(connection, table) for table in SHARD_TABLES}
    return Written(
        how=base.how,
        read=len(changed),
        taken_over=len(found) - len(changed),
        inserted=inserted,
        rewritten=base.rewritten + inserted if base.held else 0,
        rows=rows | {name: content.num_rows for name, content in small.items()},
        funnel=small["funnel"],
    )


def _forget(connection: duckdb.DuckDBPyConnection, base: _Base, found: Manifests) -> None:
    """Delete rows of changed partitions and of concepts that left the taxonomy."""
    for table in SHARD_TABLES:
        keys = [
            key
            for (room, key), content_id in base.held.items()
            if room == table.room
            and ((room, key) not in found or found[room, key].content_id != content_id)
        ]
        if keys:
            sql = f'delete from "{table.name}" where concept in (select unnest(?))'
            connection.execute(sql, [keys])


def _insert(
    connection: duckdb.DuckDBPyConnection,
    data: DataRoot,
    places: Sequence[Place],
    found: Manifests,
) -> tuple[dict[Place, Manifest], int]:
    """Insert the rows of ``places``; returns the manifests used and the number of rows."""
    read: dict[Place, Manifest] = {}
    pending: dict[str, list[pa.Table]] = {table.name: [] for table in SHARD_TABLES}
    waiting = dict.fromkeys(pending, 0)
    inserted = 0
    for manifest, tables in read_partitions(data, places, found):
        read[manifest.room, manifest.partition] = manifest
        for name, table in tables.items():
            pending[name].append(table)
            waiting[name] += table.num_rows
            if waiting[name] >= INSERTED_AT_ONCE:
                inserted += _flush(connection, name, pending[name])
                waiting[name] = 0
    for name, parts in pending.items():
        inserted += _flush(connection, name, parts)
    return read, inserted


def _flush(connection: duckdb.DuckDBPyConnection, name: str, parts: list[pa.Table]) -> int:
    if not parts:
        return 0
    table = pa.concat_tables(parts).combine_chunks()  # DuckDB takes few large chunks faster
    parts.clear()
    connection.register("incoming", table)
    connection.execute(f'insert into "{name}" by name select * from incoming')
    connection.unregister("incoming")
    return table.num_rows


def _create(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    connection.register("incoming", table)
    connection.execute(f'create or replace table "{name}" as select * from incoming')
    connection.unregister("incoming")


def _count(connection: duckdb.DuckDBPyConnection, table: ShardTable) -> int:
    counted = connection.execute(f'select count(*) from "{table.name}"').fetchall()
    return int(counted[0][0])
