"""Room ``index``: one DuckDB file with tables and named views over every shard.

Rebuildable, never the truth. It is built beside the old one and switched with the manifest;
images stay in their shards. Readers open it read-only.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from alignguard_data.audit.funnel import Manifests, concept_manifests
from alignguard_data.contracts.errors import AlignGuardError, InputMissing, IntegrityError
from alignguard_data.index.database import FILE, REWRITTEN, write_database
from alignguard_data.index.tables import described_columns
from alignguard_data.index.views import VIEWS, attach_adapters, attach_releases
from alignguard_data.storage import duckdb_files
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_data.storage.places import user_path
from alignguard_data.storage.shards import atomic_file
from alignguard_data.storage.tally import Tally
from alignguard_data.taxonomy.room import Taxonomy

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


def connect(data: DataRoot, out: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Open the index read-only, with releases and adapters beside it; the caller closes it.

    What is asked reads the index, the releases and nothing else: no other file, no network, no
    extension, and no setting can change that. The one file that can be written is ``out``.

    Raises:
        InputMissing: there is no index yet.
        PartitionBusy: another process has the file open for writing.
        StorageError: its file cannot be read.
        IntegrityError: its file, or a release, is damaged.
    """
    folder = data.partition(ROOM)
    file = Path(str(folder / manifests.require(folder).file(FILE).name))  # the index is local
    try:
        connection = duckdb_files.connect(file, read_only=True)
    except duckdb.IOException as error:
        raise InputMissing(f"{file} cannot be opened: materialize the index again") from error
    except duckdb.Error as error:
        raise IntegrityError(f"{file} is damaged: materialize the index again") from error
    try:
        _fence(connection, data, out)
    except duckdb.Error as error:
        connection.close()
        raise IntegrityError(f"{file} is damaged: materialize the index again") from error
    return connection


def _fence(connection: duckdb.DuckDBPyConnection, data: DataRoot, out: Path | None) -> None:
    attach_releases(connection, data)
    attach_adapters(connection, data)
    if out:
        connection.execute(f"set allowed_paths = [{_quoted(out)}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def query(
    data: DataRoot, sql: str, parameters: Sequence[object] = ()
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one statement on the read-only index.

    Raises:
        QueryFailed: there is no statement, or DuckDB refused it.
    """
    statement = _statement(sql)
    with connect(data) as connection:
        try:
            result = connection.execute(statement, parameters)
            columns = [column[0] for column in result.description or ()]
            return columns, result.fetchall()
        except duckdb.Error as error:
            raise _failed(error) from error


def export(data: DataRoot, sql: str, target: Path) -> int:
    """Write the rows of one query to a ``.csv``, ``.parquet`` or ``.json`` file (one object a
    line), whole or not at all; returns their number.

    Raises:
        QueryFailed: another ending, no statement, or DuckDB refused it.
    """
    statement, target = _statement(sql), user_path(target)
    kind = target.suffix.removeprefix(".").lower()
    if kind not in EXPORTS:
        raise QueryFailed(f"{target} must end in one of .{', .'.join(EXPORTS)}")
    with atomic_file(target) as temporary, connect(data, out=temporary) as connection:
        try:
            copied = connection.execute(
                f"copy ({statement}\n) to {_quoted(temporary)} (format {kind}, use_tmp_file false)"
            ).fetchall()
        except duckdb.Error as error:
            raise _failed(error) from error
    return int(copied[0][0])


def _statement(sql: str) -> str:
    """The query without the semicolons and comments at its end, which would end what is around it.

    Raises:
        QueryFailed: nothing is left.
    """
    text = sql.encode()  # DuckDB counts bytes
    for offset, kind in reversed(duckdb.tokenize(sql)):
        if kind != duckdb.token_type.comment and text[offset : offset + 1] != b";":
            return text.decode()
        text = text[:offset].rstrip()
    raise QueryFailed("the query is empty: ask for example `SELECT * FROM coverage`")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _failed(error: duckdb.Error) -> QueryFailed:
    hint = ""
    if isinstance(error, duckdb.PermissionException):
        hint = "\nA query reads the index and the releases alone; --out writes its rows to a file."
    return QueryFailed(f"{error}{hint}")
