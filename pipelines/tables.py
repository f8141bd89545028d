"""Meanings of the columns of every Parquet table that a room writes, by room and table."""

from collections.abc import Mapping

from alignguard_data.audit.funnel import FunnelRow
from alignguard_data.contracts.column_meanings import meanings
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.images.records import EditedPair
from alignguard_data.importing.coprov2.room import TABLES as IMPORTED
from alignguard_data.release.columns import POINTER
from alignguard_train.cost_model.room import TABLES as PRICED
from alignguard_train.encodings import columns as encodings
from alignguard_train.evaluation import columns as evaluation
from alignguard_train.experts import columns as experts
from alignguard_train.guards.room import TABLES as GUARDED
from alignguard_train.hardening.room import TABLES as HARDENED
from alignguard_train.merge import columns as merge
from alignguard_train.personal.room import TABLES as PERSONAL
from alignguard_train.reemergence import columns as reemergence
from alignguard_train.robustness import columns as robustness

_SHARDS = {
    room: {shard: meanings(record) for shard, record in shards.items()}
    for room, shards in {**SHARD_RECORDS, "importing": IMPORTED}.items()
}
MEANINGS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    **_SHARDS,
    "images": {**_SHARDS["images"], "edits": meanings(EditedPair)},
    "index": {"funnel": meanings(FunnelRow)},
    "release": POINTER,
    "encodings": encodings.MEANINGS,
    "guards": {table: meanings(record) for table, record in GUARDED.items()},
    "cost_model": {table: meanings(record) for table, record in PRICED.items()},
    "experts": experts.MEANINGS,
    "merge": merge.MEANINGS,
    "hardening": {table: meanings(record) for table, record in HARDENED.items()},
    "evaluation": evaluation.MEANINGS,
    "personal": {
        **{shard: meanings(record) for shard, record in PERSONAL.items()},
        "history": experts.MEANINGS["history"],
    },
    "robustness": robustness.MEANINGS,
    "reemergence": reemergence.MEANINGS,
}
"""Room, table and column to meaning. Releases have theirs in ``alignguard_data.release.columns``,
the index's database in ``alignguard_data.index.columns``."""
