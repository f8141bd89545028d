"""Rooms that pass images on hold a few at a time; what they write does not depend on how many."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignguard_data.images import rendering
from alignguard_data.release import rows as release_rows
from alignguard_data.scores import room as scores
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.shards import write_shard
from tests.alignguard_data.tiny_rooms import SIDE, TinyRooms

CONCEPT = "lines.bar"


def rows_of(rooms: TinyRooms, room: str, stem: str) -> pa.Table:
    return manifests.read(rooms.data.partition(room, CONCEPT), stem)


@pytest.mark.parametrize("at_once", [1, 5, 7])
def test_a_shard_of_images_is_written_in_row_groups_of_bounded_size(tmp_path, monkeypatch, at_once):
    whole = rows_of(TinyRooms(root=tmp_path / "whole").fill("images"), "images", "images")
    monkeypatch.setattr(rendering, "PIXELS_PER_PART", at_once * SIDE * SIDE)
    parts = TinyRooms(root=tmp_path / "parts").fill("images")
    assert rows_of(parts, "images", "images").equals(whole)
    folder = parts.data.partition("images", CONCEPT)
    manifest = manifests.require(folder)
    assert manifest.rows == whole.num_rows == 12
    file = pq.ParquetFile(folder / manifest.file("images").name)
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert max(groups) == at_once
    assert sum(groups) == 12


def test_a_release_and_its_scores_do_not_depend_on_how_many_images_are_held(tmp_path, monkeypatch):
    whole = TinyRooms(root=tmp_path / "whole").fill("release")
    monkeypatch.setattr(release_rows, "IMAGES_AT_ONCE", 1)
    monkeypatch.setattr(scores, "IMAGES_PER_CHUNK", 1)
    parts = TinyRooms(root=tmp_path / "parts").fill("release")
    contents = [
        manifests.require(rooms.data.partition("release")).counts["release_content_id"]
        for rooms in (whole, parts)
    ]
    assert contents[0] == contents[1]


def test_parts_of_a_shard_are_asked_for_one_by_one(tmp_path):
    """An iterator is not gathered: at each part the one before is already written."""
    given = []

    def parts():
        for i in range(3):
            given.append(i)
            yield pa.table({"a": [i]})

    file = write_shard(tmp_path / "x.parquet", parts())
    assert file.rows == 3
    assert given == [0, 1, 2]
    assert pq.read_table(tmp_path / "x.parquet")["a"].to_pylist() == [0, 1, 2]
    assert pq.ParquetFile(tmp_path / "x.parquet").num_row_groups == 3
