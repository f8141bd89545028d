"""Room ``index``: one DuckDB file with tables and named views over every shard.

Rebuildable, never the truth. It is built beside the old one and switched with the manifest;
images stay in their shards. Readers open it read-only.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from alignguard_data import manifest as manifests
from alignguard_data.basis import basis
from alignguard_data.errors import AlignGuardError, InputMissing, PartitionBusy
from alignguard_data.funnel import Manifests, concept_manifests
from alignguard_data.index_database import FILE, REWRITTEN, write_database
from alignguard_data.index_tables import described_columns
from alignguard_data.index_views import VIEWS, attach_adapters, attach_releases
from alignguard_data.manifest import Manifest
from alignguard_data.partition import PartitionSpec, open_partition
from alignguard_data.paths import UNPARTITIONED, DataRoot
from alignguard_data.shards import atomic_file
from alignguard_data.tally import Tally
from alignguard_data.taxonomy import Taxonomy

ROOM = "index"
FORMAT = 1
"""Part of the fingerprint: raise it when the file changes for equal tables and views."""
EXPORTS = ("csv", "parquet", "json")


class QueryFailed(AlignGuardError):
    """A query could not be run; the text is DuckDB's."""


def spec(data: DataRoot, taxonomy: Taxonomy) -> PartitionSpec:
    """What the index should be made of: every concept's partitions.

    Raises:
        InputMissing: a partition is not complete.
    """
    return _spec(data, concept_manifests(data, taxonomy))


def _spec(data: DataRoot, found: Manifests) -> PartitionSpec:
    inputs = {f"{room}/{key}": manifest.content_id for (room, key), manifest in found.items()}
    inputs["taxonomy"] = manifests.require(data.partition("taxonomy")).content_id
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key=UNPARTITIONED,
        config={
            "tables": described_columns(),
            "views": VIEWS,
            "duckdb": duckdb.__version__,
            **basis(ROOM, format=FORMAT),
        },
        inputs=inputs,
    )


def build_index(data: DataRoot, taxonomy: Taxonomy) -> Manifest:
    """Build the DuckDB file from the shards, each verified as it is read; partitions that the last
    file holds with the same content are taken over with it (see ``index_database``).

    The partition's own table is ``funnel`` (FunnelRow); ``counts`` says how it was built, how many
    partitions were read and taken over, and the rows of every table.

    Raises:
        InputMissing: a partition is not complete.
        IntegrityError: a shard differs from its manifest, named.
    """
    found = concept_manifests(data, taxonomy)
    with open_partition(_spec(data, found)) as work:
        if work.done:
            return work.done
        started = time.monotonic()
        file, written = write_database(work, data, taxonomy, found)
        return work.finish(
            tables={"funnel": written.funnel},
            extra_files={FILE: file},
            counts={
                "build": written.how,
                "partitions_read": written.read,
                "partitions_taken_over": written.taken_over,
                "inserted_rows": written.inserted,
                "rows_per_second": round(written.inserted / (time.monotonic() - started)),
                REWRITTEN: written.rewritten,
                "tables": written.rows,
            },
            tally=Tally(wanted=len(found), made=len(found), unit="partitions"),
        )


def connect(data: DataRoot) -> duckdb.DuckDBPyConnection:
    """Open the index read-only, with releases and adapters beside it; the caller closes it.

    Raises:
        InputMissing: there is no index yet.
        PartitionBusy: another process has the file open for writing.
    """
    folder = data.partition(ROOM)
    file = folder / manifests.require(folder).file(FILE).name
    try:
        connection = duckdb.connect(str(file), read_only=True)
    except duckdb.IOException as error:
        if "Could not set lock" in str(error):
            raise PartitionBusy(f"{file} is locked: another process writes to it") from error
        raise InputMissing(f"{file} cannot be opened: materialize the index again") from error
    attach_releases(connection, data)
    attach_adapters(connection, data)
    return connection


def query(
    data: DataRoot, sql: str, parameters: Sequence[object] = ()
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one statement on the read-only index.

    Raises:
        QueryFailed: DuckDB refused the statement.
    """
    with connect(data) as connection:
        try:
            result = connection.execute(sql, parameters)
            columns = [column[0] for column in result.description or ()]
            return columns, result.fetchall()
        except duckdb.Error as error:
            raise QueryFailed(str(error)) from error


def export(data: DataRoot, sql: str, target: Path) -> int:
    """Write the rows of one query to a ``.csv``, ``.parquet`` or ``.json`` file (one object a
    line), whole or not at all; returns their number.

    Raises:
        QueryFailed: another ending, or DuckDB refused the statement.
    """
    kind = target.suffix.removeprefix(".").lower()
    if kind not in EXPORTS:
        raise QueryFailed(f"{target} must end in one of .{', .'.join(EXPORTS)}")
    with connect(data) as connection, atomic_file(target) as temporary:
        try:
            place = str(temporary).replace("'", "''")
            copied = connection.execute(
                f"copy ({sql.rstrip().rstrip(';')}) to '{place}' (format {kind})"
            ).fetchall()
        except duckdb.Error as error:
            raise QueryFailed(str(error)) from error
    return int(copied[0][0])
