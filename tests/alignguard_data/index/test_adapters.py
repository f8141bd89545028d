"""The end of a pair's lineage: which adapters a released pair taught."""

from pathlib import Path

import pyarrow as pa
import pytest

from alignguard_data.index import sql as index_query
from alignguard_data.index.adapters import WEIGHTS, list_adapters
from alignguard_data.index.pair_history import load_pair_history
from alignguard_data.release.withdrawals import withdraw
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.shards import sha256_file
from tests.alignguard_data.tiny_rooms import TinyRooms

CATEGORIES = ("lines", "spots")


@pytest.fixture
def released(filled: TinyRooms) -> TinyRooms:
    return filled.fill_from("index", "release")


def make_adapter(rooms: TinyRooms, room: str, key: str, files: list[str], **config: object) -> None:
    """A partition as the training rooms leave it; the weights are a few bytes.

    That of ``lines`` is an older one, which had the whole release among its inputs.
    """
    release = manifests.require(rooms.data.partition("release"))
    older = key == "lines"
    inputs = {"release": release.content_id} if older else {f"train rows of {key}": "0" * 32}
    counts = {} if older else {"release_content_id": release.content_id}
    experts = {
        f"experts/{key}": manifests.require(rooms.data.partition("experts", key)).content_id
        for key in (CATEGORIES if room == "merge" else ())
    }
    made = PartitionSpec(
        folder=rooms.data.partition(room, key), room=room, key=key, config=config,
        inputs={**inputs, **experts}, models={"tiny-model": "1"},
    )  # fmt: skip
    with open_partition(made) as work:
        places: dict[str, Path] = {name: work.partial / name for name in files}
        for name, place in places.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"{room} {key} {name}")
        work.finish(
            tables={"history": pa.table({"step": [0]})},
            extra_files=places,
            counts={"release": release.counts["path"], **counts},
        )


def train(rooms: TinyRooms) -> None:
    for key in CATEGORIES:
        make_adapter(rooms, "experts", key, [WEIGHTS], categories=[key])
    strategies = ["co-merge", "average"]
    make_adapter(rooms, "merge", "all", [f"{strategy}/{WEIGHTS}" for strategy in strategies])


def rows(rooms: TinyRooms, sql: str):
    columns, found = index_query.query(rooms.data, sql)
    return [dict(zip(columns, row, strict=True)) for row in found]


def test_before_training_there_are_none(released):
    assert list_adapters(released.data) == []
    assert rows(released, "select * from pair_adapters") == []


def test_every_file_of_weights_is_an_adapter_with_its_hash(released):
    train(released)
    found = list_adapters(released.data)
    assert [(a.room, a.adapter, a.categories) for a in found] == [
        ("experts", "lines", ["lines"]),
        ("experts", "spots", ["spots"]),
        ("merge", "average", ["lines", "spots"]),
        ("merge", "co-merge", ["lines", "spots"]),
    ]
    assert all(a.sha256 == sha256_file(Path(a.file)) for a in found)
    assert {(a.release, a.base_model, a.base_revision) for a in found} == {
        ("v0.1.0", "tiny-model", "1")
    }


def test_a_pair_taught_the_expert_of_its_category_and_every_merge(released):
    train(released)
    pair = rows(released, "from release_pairs where split = 'train' and category = 'lines'")[0]
    history = load_pair_history(released.data, pair["pair_id"])
    assert [row["adapter"] for row in history.adapters] == ["average", "co-merge", "lines"]
    assert {row["release"] for row in history.adapters} == {"v0.1.0"}
    (whole,) = rows(released, f"from lineage_to_adapters where pair_id = '{pair['pair_id']}'")
    assert whole["releases"] == ["v0.1.0"]
    assert whole["adapters"] == ["average", "co-merge", "lines"]


def test_pairs_that_nothing_was_trained_on_taught_nothing(released):
    train(released)
    sql = """
        select count(*) as n, count(*) filter (len(adapters) > 0) as taught,
               verdict = 'kept' and split = 'train' as could
        from lineage_to_adapters group by could order by could"""
    others, kept = rows(released, sql)
    assert others["taught"] == 0
    assert kept["taught"] == kept["n"] > 0
    assert others["n"] + kept["n"] == 32


def test_an_adapter_keeps_the_release_that_it_was_trained_on(released):
    train(released)
    pair = rows(released, "from release_pairs where split = 'train' order by all")[0]["pair_id"]
    withdraw(released.data, [pair], "a placeholder reason")
    released.fill_from("release")
    assert len(rows(released, "from releases")) == 2
    assert {a.release for a in list_adapters(released.data)} == {"v0.1.0"}
    assert {row["release"] for row in load_pair_history(released.data, pair).adapters} == {"v0.1.0"}
