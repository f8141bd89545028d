"""The table of shards is what the rooms really write."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts.records import schema_of
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.storage import manifest as manifests
from tests.alignguard_data.tiny_rooms import TinyRooms


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> TinyRooms:
    return TinyRooms(root=tmp_path_factory.mktemp("filled") / "data").fill("pairs")


@pytest.mark.parametrize("room", SHARD_RECORDS)
def test_a_room_writes_the_shards_of_the_table_in_its_order(filled, room):
    key = "all" if room == "taxonomy" else filled.taxonomy.concepts[0].key
    folder = filled.data.partition(room, key)
    files = manifests.require(folder).files
    assert [Path(file.name).stem for file in files] == list(SHARD_RECORDS[room])
    for file, record in zip(files, SHARD_RECORDS[room].values(), strict=True):
        assert pq.read_schema(folder / file.name).equals(schema_of(record))
