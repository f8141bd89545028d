"""Manifests: complete means it exists; identity follows content, configuration and inputs."""

import dataclasses

import pyarrow as pa
import pytest

from alignguard_data.contracts.errors import InputMissing, IntegrityError
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import MANIFEST, Manifest
from alignguard_data.storage.partition import PartitionSpec, open_partition
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


HELD = {"rows.parquet": "r", "one/a.png": "a", "two/a.png": "b"}
"""Files of a partition by name, folders among them, and what they hold."""


def content_id_of(folder, files: dict[str, str], config: dict[str, str] | None = None) -> str:
    spec = PartitionSpec(folder=folder, room="r", key="k", config=config or {}, inputs={})
    with open_partition(spec) as work:
        written = {name: work.partial / f"{number}" for number, name in enumerate(files)}
        for path, content in zip(written.values(), files.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return work.finish(tables={}, extra_files=written).content_id


def test_equal_files_have_one_content_id_whatever_they_were_made_from(tmp_path):
    first = content_id_of(tmp_path / "p", HELD)
    assert content_id_of(tmp_path / "q", dict(reversed(HELD.items())), {"other": "x"}) == first


@pytest.mark.parametrize(
    "files",
    [
        HELD | {"rows.parquet": "s"},
        HELD | {"one/a.png": "c"},
        HELD | {"one/a.png": "b", "two/a.png": "a"},
        HELD | {"one/b.png": "b"},
        {k.replace("one/", "three/"): v for k, v in HELD.items()},
        {k.replace("one/", ""): v for k, v in HELD.items()},
        {k.replace("one/", "one/deeper/"): v for k, v in HELD.items()},
        {k: v for k, v in HELD.items() if k != "two/a.png"},
    ],
    ids=["a file", "a file in a folder", "two folders' files change places", "one more in a folder",
         "a folder's name", "a folder is left out", "a folder in a folder", "a folder is gone"],
)  # fmt: skip
def test_other_files_folders_among_them_have_another_content_id(tmp_path, files):
    assert content_id_of(tmp_path / "p", HELD) != content_id_of(tmp_path / "q", files)


def test_a_file_in_a_folder_is_found_with_its_folder(tmp_path):
    content_id_of(tmp_path / "p", HELD)
    made = manifests.require(tmp_path / "p")
    one, two = made.file("one/a.png"), made.file("two/a.png")
    assert one.sha256 != two.sha256
    with pytest.raises(IntegrityError, match=r"names no a\.png"):
        made.file("a.png")


def test_the_manifests_fields_are_frozen():
    """Other tools read them: a change here is a change of format."""
    assert [f.name for f in dataclasses.fields(Manifest)] == [
        "room", "partition", "fingerprint", "content_id", "inputs", "config", "models", "rows",
        "rejected", "files", "counts", "versions", "run_id", "seconds", "digests",
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
