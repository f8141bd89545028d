"""Room ``index``: one DuckDB file with tables and named views over every shard.

Rebuildable, never the truth. It is built beside the old one and switched with the manifest;
images stay in their shards. Readers open it read-only.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from alignguard_data import manifest as manifests
from alignguard_data.errors import AlignGuardError, InputMissing, PartitionBusy, StorageError
from alignguard_data.funnel import FunnelRow, concept_manifests, funnel
from alignguard_data.index_views import VIEWS, attach_releases
from alignguard_data.manifest import Manifest
from alignguard_data.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.paths import UNPARTITIONED, DataRoot
from alignguard_data.records import (
    DroppedPair,
    PreferencePair,
    PromptPair,
    RejectedImage,
    RejectedReply,
    RenderedImage,
    Score,
    schema_of,
    to_table,
)
from alignguard_data.shards import atomic_file
from alignguard_data.taxonomy import Taxonomy

ROOM = "index"
FILE = "index.duckdb"
EXPORTS = ("csv", "parquet", "json")

_SHARDS: tuple[tuple[str, str, str, type], ...] = (
    ("prompt_pairs", "prompts", "pairs", PromptPair),
    ("rejected_replies", "prompts", "rejected", RejectedReply),
    ("images", "images", "images", RenderedImage),
    ("rejected_images", "images", "rejected", RejectedImage),
    ("unscored_images", "scores", "rejected", RejectedImage),
    ("scores", "scores", "scores", Score),
    ("kept_pairs", "pairs", "kept", PreferencePair),
    ("dropped_pairs", "pairs", "dropped", DroppedPair),
)
"""Table, and the room, shard and record that it comes from."""


class QueryFailed(AlignGuardError):
    """A query could not be run; the text is DuckDB's."""


def spec(data: DataRoot, taxonomy: Taxonomy) -> PartitionSpec:
    """What the index should be made of: every concept's partitions.

    Raises:
        InputMissing: a partition is not complete.
    """
    found = concept_manifests(data, taxonomy)
    inputs = {f"{room}/{key}": manifest.content_id for (room, key), manifest in found.items()}
    inputs["taxonomy"] = manifests.require(data.partition("taxonomy")).content_id
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key=UNPARTITIONED,
        config={"views": VIEWS, "duckdb": duckdb.__version__},
        inputs=inputs,
    )


def build_index(data: DataRoot, taxonomy: Taxonomy) -> Manifest:
    """Build the DuckDB file from the shards, each verified as it is read.

    The partition's own table is ``funnel`` (FunnelRow); ``counts`` has the rows of every table
    and rows a second.

    Raises:
        InputMissing: a partition is not complete.
        IntegrityError: a shard differs from its manifest, named.
    """
    with open_partition(spec(data, taxonomy)) as work:
        if work.done:
            return work.done
        started = time.monotonic()
        tables = _tables(data, taxonomy)
        temporary = _write_database(work, tables)
        inserted = sum(table.num_rows for table in tables.values())
        return work.finish(
            tables={"funnel": tables["funnel"]},
            extra_files={FILE: temporary},
            counts={
                "inserted_rows": inserted,
                "rows_per_second": round(inserted / (time.monotonic() - started)),
                "tables": {name: table.num_rows for name, table in tables.items()},
            },
        )


def connect(data: DataRoot) -> duckdb.DuckDBPyConnection:
    """Open the index read-only, with the releases beside it; the caller closes it.

    Raises:
        InputMissing: there is no index yet.
        PartitionBusy: another process has the file open for writing.
    """
    folder = data.partition(ROOM)
    file = folder / manifests.require(folder).file(FILE).name
    try:
        connection = duckdb.connect(str(file), read_only=True)
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise PartitionBusy(f"{file} is locked: another process writes to it") from error
        raise InputMissing(f"{file} cannot be opened: materialize the index again") from error
    attach_releases(connection, data)
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


def _tables(data: DataRoot, taxonomy: Taxonomy) -> dict[str, pa.Table]:
    found = concept_manifests(data, taxonomy)
    keys = [concept.key for concept in taxonomy.concepts]
    tables = {
        table: _all_concepts(data, keys, room, shard, record)
        for table, room, shard, record in _SHARDS
    }
    tables["concepts"] = manifests.read(data.partition("taxonomy"), "concepts")
    tables["funnel"] = to_table(FunnelRow, funnel(taxonomy, found))
    everything = [*found.values(), manifests.require(data.partition("taxonomy"))]
    tables["manifests"] = _manifest_table(everything)
    tables["flag_rules"] = _flag_rules(everything)
    return tables


def _all_concepts(
    data: DataRoot, keys: Sequence[str], room: str, shard: str, record: type
) -> pa.Table:
    columns = [field.name for field in schema_of(record) if not pa.types.is_binary(field.type)]
    parts = [manifests.read(data.partition(room, key), shard, columns=columns) for key in keys]
    empty = schema_of(record).empty_table().select(columns)
    return pa.concat_tables([empty, *parts])


def _manifest_table(everything: Sequence[Manifest]) -> pa.Table:
    return pa.table(
        {
            "room": [m.room for m in everything],
            "partition": [m.partition for m in everything],
            "fingerprint": [m.fingerprint for m in everything],
            "content_id": [m.content_id for m in everything],
            "rows": [m.rows for m in everything],
            "rejected": [sum(m.rejected.values()) for m in everything],
            "bytes": [sum(file.bytes for file in m.files) for m in everything],
            "seconds": [m.seconds for m in everything],
            "run_id": [m.run_id for m in everything],
            "models": [json.dumps(m.models, sort_keys=True) for m in everything],
            "config": [json.dumps(m.config, sort_keys=True) for m in everything],
        }
    )


def _flag_rules(everything: Sequence[Manifest]) -> pa.Table:
    rules = {
        (rule["scorer"], rule["key"], float(rule["at_least"]))
        for manifest in everything
        if manifest.room == "pairs"
        for rule in manifest.config["flags"]
    }
    schema = pa.schema([("scorer", pa.string()), ("key", pa.string()), ("at_least", pa.float64())])
    names = ("scorer", "key", "at_least")
    return pa.Table.from_pylist([dict(zip(names, r, strict=True)) for r in sorted(rules)], schema)


def _write_database(work: PartitionWork, tables: dict[str, pa.Table]) -> Path:
    # A killed build leaves a half-written file: begin anew rather than open it.
    shutil.rmtree(work.partial, ignore_errors=True)
    work.partial.mkdir(parents=True)
    file = work.partial / FILE
    try:
        with duckdb.connect(str(file)) as connection:
            for name, table in tables.items():
                connection.register("incoming", table)
                connection.execute(f'create table "{name}" as select * from incoming')
                connection.unregister("incoming")
            for name, body in VIEWS.items():
                connection.execute(f'create view "{name}" as {body}')
    except duckdb.IOException as error:
        raise StorageError(f"cannot write {file}: {error}") from error
    return file
