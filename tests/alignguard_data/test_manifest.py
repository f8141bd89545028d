"""Manifests: complete means it exists; identity follows content, configuration and inputs."""

import dataclasses

import pyarrow as pa
import pytest

from alignguard_data import manifest as manifests
from alignguard_data.errors import InputMissing, IntegrityError
from alignguard_data.manifest import MANIFEST, Manifest
from alignguard_data.partition import PartitionSpec, open_partition
from alignguard_data.shards import ShardFile
from tests.alignguard_data.conftest import flip_a_byte


@pytest.fixture
def folder(tmp_path):
    made = PartitionSpec(folder=tmp_path / "p", room="r", key="k", config={}, inputs={})
    with open_partition(made) as work:
        work.finish(tables={"rows": pa.table({"a": [1, 2], "b": ["x", "y"]})}, rejected={"bad": 3})
    return tmp_path / "p"


def test_a_manifest_survives_its_file(folder):
    loaded = manifests.require(folder)
    assert (loaded.room, loaded.partition, loaded.rows, loaded.rejected) == (
        "r",
        "k",
        2,
        {"bad": 3},
    )
    loaded.save(folder)
    assert manifests.load(folder) == loaded


def test_where_there_is_none_the_partition_is_named(tmp_path):
    assert manifests.load(tmp_path) is None
    with pytest.raises(InputMissing, match=f"{tmp_path} has no manifest.json"):
        manifests.require(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": []}', "\udcff"])
def test_a_broken_manifest_is_named(folder, content):
    (folder / MANIFEST).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(IntegrityError, match=r"manifest\.json is not"):
        manifests.load(folder)


def test_reading_checks_the_hash_and_takes_columns(folder):
    assert manifests.read(folder, "rows", columns=["b"]).to_pylist() == [{"b": "x"}, {"b": "y"}]
    (shard,) = folder.glob("*/rows.parquet")
    flip_a_byte(shard)
    with pytest.raises(IntegrityError, match=str(shard)):
        manifests.read(folder, "rows")
    with pytest.raises(IntegrityError, match=str(shard)):
        manifests.require(folder).verify(folder)


def test_fingerprints_follow_config_and_inputs_but_not_their_order():
    one = manifests.fingerprint({"a": 1, "b": [2]}, {"x": "1", "y": "2"})
    assert one == manifests.fingerprint({"b": (2,), "a": 1}, {"y": "2", "x": "1"})
    assert one != manifests.fingerprint({"a": 2, "b": [2]}, {"x": "1", "y": "2"})
    assert one != manifests.fingerprint({"a": 1, "b": [2]}, {"x": "1", "y": "3"})
    assert len(one) == 16


def test_content_ids_follow_the_files_hashes_alone():
    file = ShardFile(name="g1/rows.parquet", rows=1, bytes=2, sha256="s")
    moved = dataclasses.replace(file, name="g2/rows.parquet")
    changed = dataclasses.replace(file, sha256="t")
    assert manifests.content_id((file,)) == manifests.content_id((moved,))
    assert manifests.content_id((file,)) != manifests.content_id((changed,))


def test_the_manifests_fields_are_frozen():
    """Other tools read them: a change here is a change of format."""
    assert [f.name for f in dataclasses.fields(Manifest)] == [
        "room", "partition", "fingerprint", "content_id", "inputs", "config", "models", "rows",
        "rejected", "files", "counts", "versions", "run_id", "seconds",
    ]  # fmt: skip


def test_a_file_is_found_by_its_whole_name(tmp_path):
    """A longer name that begins alike must not be read in its place."""
    made = PartitionSpec(folder=tmp_path / "q", room="r", key="k", config={}, inputs={})
    tables = {stem: pa.table({"a": [len(stem)]}) for stem in ("rows-of-more", "rows")}
    with open_partition(made) as work:
        manifest = work.finish(tables=tables)
    assert manifest.file("rows").name.endswith("/rows.parquet")
    assert manifest.file("rows.parquet") == manifest.file("rows")
    assert manifests.read(tmp_path / "q", "rows")["a"].to_pylist() == [4]
    with pytest.raises(IntegrityError, match="r k names no row"):
        manifest.file("row")
