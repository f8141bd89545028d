"""The index's tables: shard rows, and small tables built from manifests.

Each shard row has its concept, so one partition's rows can be found and replaced.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from alignguard_data.audit.funnel import FunnelRow, Manifests, funnel
from alignguard_data.contracts.records import schema_of, to_table
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.paths import DataRoot
from alignguard_data.taxonomy.parse import Taxonomy

READERS = 4
"""Partitions read concurrently; hashing and waiting for a bucket overlap."""

AHEAD = 16
"""Most partitions held in memory before an insert."""

Place = tuple[str, str]
"""Room and concept key of one partition."""

FLAG_RULES = pa.schema(
    [
        ("scorer", pa.string()),
        ("key", pa.string()),
        ("at_least", pa.float64()),
        ("version", pa.string()),
    ]
)
"""As ``FlagRule``; ``version`` is null where the threshold holds for any version of the scorer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTable:
    """A table of the index, with the room and shard of its rows."""

    name: str
    room: str
    shard: str

    @property
    def schema(self) -> pa.Schema:
        """The record's columns except the images, which stay in their shards."""
        record = SHARD_RECORDS[self.room][self.shard]
        fields = [f for f in schema_of(record) if not pa.types.is_binary(f.type)]
        return pa.schema(fields)


SHARD_TABLES = tuple(
    ShardTable(name=name, room=room, shard=shard)
    for name, room, shard in (
        ("prompt_pairs", "prompts", "pairs"),
        ("rejected_replies", "prompts", "rejected"),
        ("images", "images", "images"),
        ("rejected_images", "images", "rejected"),
        ("unscored_images", "scores", "rejected"),
        ("scores", "scores", "scores"),
        ("kept_pairs", "pairs", "kept"),
        ("dropped_pairs", "pairs", "dropped"),
    )
)


def described_columns() -> dict[str, dict[str, str]]:
    """Column types by table, for the index's fingerprint."""
    return {t.name: {f.name: str(f.type) for f in t.schema} for t in SHARD_TABLES}


def read_partitions(
    data: DataRoot, places: Sequence[Place], found: Manifests
) -> Iterator[tuple[Manifest, dict[str, pa.Table]]]:
    """Read partitions, a few at a time.

    Args:
        data: the data folder.
        places: room and concept key of each partition.
        found: manifest by room and concept key.

    Yields:
        The manifest that was read with and the tables by name, in order.

    Raises:
        InputMissing: a partition is not complete.
        IntegrityError: a shard differs from its manifest; it is named.
    """
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(places), AHEAD):
            part = places[start : start + AHEAD]
            yield from pool.map(lambda place: _read_partition(data, place, found[place]), part)


def _read_partition(
    data: DataRoot, place: Place, manifest: Manifest
) -> tuple[Manifest, dict[str, pa.Table]]:
    folder = data.partition(*place)
    while True:
        tables = {
            table.name: manifests.read(folder, table.shard, columns=table.schema.names)
            for table in SHARD_TABLES
            if table.room == place[0]
        }
        # A writer may have replaced the partition in between, which would mix two contents.
        now = manifests.require(folder)
        if now.content_id == manifest.content_id:
            return now, tables
        manifest = now


def small_tables(
    data: DataRoot, taxonomy: Taxonomy, read: Mapping[Place, Manifest]
) -> dict[str, pa.Table]:
    """``concepts``, ``funnel``, ``manifests`` and ``flag_rules``, which each build replaces."""
    folder = data.partition("taxonomy")
    everything = [*read.values(), manifests.require(folder)]
    return {
        "concepts": manifests.read(folder, "concepts"),
        "funnel": to_table(FunnelRow, funnel(taxonomy, read)),
        "manifests": _manifest_table(everything),
        "flag_rules": _flag_rules(everything),
    }


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
        (rule["scorer"], rule["key"], float(rule["at_least"]), rule.get("version"))
        for manifest in everything
        if manifest.room == "pairs"
        for rule in manifest.config["flags"]
    }
    rows = sorted(rules, key=lambda rule: (*rule[:3], rule[3] or ""))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in FLAG_RULES]
    return pa.table(columns, schema=FLAG_RULES)
