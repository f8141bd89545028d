"""Wanted and made units of a partition: its states, its manifest, and what is kept."""

import dataclasses
import os
import time

import pyarrow as pa
import pytest

from alignguard_data.contracts.errors import NothingMade
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage import places as storage
from alignguard_data.storage.manifest import MANIFEST, Manifest
from alignguard_data.storage.partition import ABANDONED_SECONDS, PartitionSpec, open_partition
from alignguard_data.storage.tally import NOTHING, Tally
from tests.alignguard_data.conftest import flip_a_byte


@pytest.fixture
def spec(tmp_path) -> PartitionSpec:
    return PartitionSpec(folder=tmp_path / "p", room="r", key="k", config={"n": 1}, inputs={})


def tally(made: int, wanted: int = 4, example: str = "row 3") -> Tally:
    return Tally(wanted=wanted, made=made, unit="rows", example=example)


def make(spec: PartitionSpec, *values: int, of: Tally | None = None) -> Manifest:
    with open_partition(spec) as work:
        return work.finish(
            tables={"rows": pa.table({"a": list(values)})}, tally=of, rejected={"b": 2, "a": 1}
        )


def other(spec: PartitionSpec) -> PartitionSpec:
    return dataclasses.replace(spec, config={"n": 0})


@pytest.mark.parametrize(
    ("made", "least", "asks_again", "state"),
    [
        (4, 1, True, "done"),
        (3, 1, True, "short"),
        (3, 1, False, "done"),
        (3, 3, False, "done"),
        (0, 0, False, "done"),
        (0, 0, True, "short"),
    ],
)
def test_the_state_follows_what_came_of_what_was_asked_for(spec, made, least, asks_again, state):
    spec = dataclasses.replace(spec, least=least, asks_again=asks_again)
    done = make(spec, *range(made), of=tally(made))
    assert spec.state() == state
    assert spec.current() == done
    assert spec.is_short(done) == (state == "short")
    with open_partition(spec) as work:
        assert work.done == spec.completed() == (None if state == "short" else done)


def test_a_partition_that_was_asked_for_nothing_may_be_empty(spec):
    make(spec, of=tally(0, wanted=0))
    assert spec.state() == "done"


def test_a_limit_that_rises_makes_a_partition_stale(spec):
    make(spec, 1, 2, of=tally(2))
    assert dataclasses.replace(spec, least=2).state() == "done"
    higher = dataclasses.replace(spec, least=3)
    assert higher.state() == "stale"
    assert higher.completed() is None


@pytest.mark.parametrize(("made", "least"), [(0, 1), (2, 3)])
def test_too_few_are_kept_beside_and_the_partition_is_not_done(spec, made, least):
    old = make(other(spec), 7, 8, 9)
    spec = dataclasses.replace(spec, least=least)
    with pytest.raises(NothingMade) as caught:
        make(spec, *range(made), of=tally(made))
    reason = f"r k: {made} of 4 rows; commonest reason b (2 of 3); for example row 3"
    assert caught.value.lines == (reason,)
    assert manifests.load(spec.folder) == old
    assert manifests.read(spec.folder, "rows").num_rows == 3
    assert spec.state() == "empty"
    assert spec.completed() is None
    attempt = spec.made_nothing()
    assert attempt
    assert (attempt.rows, attempt.rejected) == (made, {"a": 1, "b": 2})
    kept = {"wanted": 4, "made": made, "unit": "rows", "short_by": 4 - made, "example": "row 3"}
    assert attempt.counts == kept
    assert storage.size(spec.folder / attempt.files[0].name) == attempt.files[0].bytes
    assert dataclasses.replace(spec, config={"n": 2}).made_nothing() is None
    assert dataclasses.replace(spec, config={"n": 2}).state() == "stale"


def test_an_attempt_is_forgotten_with_its_files_when_the_next_one_makes_something(spec):
    with pytest.raises(NothingMade):
        make(spec, of=tally(0))
    attempt = spec.made_nothing()
    assert attempt
    made = make(spec, 1, of=tally(1))
    assert spec.state() == "done"
    assert spec.made_nothing() is None
    assert not (spec.folder / NOTHING).exists()
    assert not (spec.folder / attempt.files[0].name).parent.exists()
    assert storage.size(spec.folder / made.files[0].name) == made.files[0].bytes


def test_the_next_attempt_that_makes_nothing_takes_the_place_of_the_last(spec):
    for values in ((), (5,)):
        with pytest.raises(NothingMade):
            make(dataclasses.replace(spec, least=2), *values, of=tally(len(values)))
    attempt = spec.made_nothing()
    assert attempt
    assert attempt.rows == 1
    folders = {path.name for path in spec.folder.iterdir() if path.is_dir()}
    assert folders == {attempt.files[0].name.partition("/")[0]}


@pytest.mark.parametrize("name", [MANIFEST, NOTHING])
def test_a_broken_attempt_or_manifest_is_no_error(spec, name):
    if name == MANIFEST:
        make(spec, 1)
    else:
        with pytest.raises(NothingMade):
            make(spec, of=tally(0))
    flip_a_byte(spec.folder / name, offset=0)
    assert spec.made_nothing() is None
    assert spec.completed() is None
    assert spec.current() is None
    assert spec.state() == ("stale" if name == MANIFEST else "missing")
    make(spec, 2)
    assert spec.state() == "done"


def test_nothing_to_make_is_refused_before_anything_is_written(spec):
    with open_partition(spec) as work:
        work.raise_if_nothing(tally(1), {})
        work.raise_if_nothing(tally(0, wanted=0), {})
        with pytest.raises(NothingMade) as caught:
            work.raise_if_nothing(tally(0, example=""), {"gone": 4})
    assert caught.value.lines == ("r k: 0 of 4 rows; commonest reason gone (4 of 4)",)
    assert spec.state() == "missing"


def test_what_is_promised_elsewhere_is_a_part_of_done(spec):
    asked = []

    def promise(manifest: Manifest) -> bool:
        asked.append(manifest.rows)
        return len(asked) > 1

    spec = dataclasses.replace(spec, promises=promise)
    make(spec, 1, 2)
    assert spec.state() == "stale"
    assert spec.state() == "done"
    assert asked == [2, 2]


def test_a_manifest_says_from_what_and_how_it_was_made(spec, monkeypatch):
    spec = dataclasses.replace(spec, inputs={"x": "1"}, models={"m": "r2"})
    with open_partition(spec) as work:
        monkeypatch.setattr(time, "monotonic", lambda: work.started + 1.23456)
        made = work.finish(
            tables={"rows": pa.table({"a": [1, 2]}), "dropped": pa.table({"a": [3]})},
            rejected={"z": 1, "b": 2},
            counts={"extra": 5},
            tally=tally(2),
        )
        assert work.done is made
    assert (made.room, made.partition, made.fingerprint) == ("r", "k", spec.fingerprint)
    assert (made.inputs, made.config, made.models) == ({"x": "1"}, {"n": 1}, {"m": "r2"})
    assert (made.rows, list(made.rejected)) == (2, ["b", "z"])
    assert made.counts == {"extra": 5, "wanted": 4, "made": 2, "unit": "rows", "short_by": 2}
    assert (made.run_id, made.seconds) == ("", 1.235)
    assert made.versions == manifests.library_versions()
    assert manifests.require(spec.folder) == made
    generation = f"{spec.fingerprint}-{made.content_id[:8]}"
    assert [file.name for file in made.files] == [
        f"{generation}/rows.parquet",
        f"{generation}/dropped.parquet",
    ]
    assert [file.rows for file in made.files] == [2, 1]


def test_a_fingerprint_is_of_settings_models_and_inputs_by_these_names(spec):
    """Another name for one of them would make every partition there is stale."""
    spec = dataclasses.replace(spec, inputs={"x": "1"}, models={"m": "r2"})
    whole = {"n": 1, "models": {"m": "r2"}}
    assert spec.fingerprint == manifests.fingerprint(whole, {"x": "1"})


def test_files_without_a_table_have_no_rows(spec, tmp_path):
    (tmp_path / "weights").write_bytes(b"w")
    with open_partition(spec) as work:
        made = work.finish(tables={}, extra_files={"a.bin": tmp_path / "weights"})
    assert (made.rows, made.rejected, made.counts) == (0, {}, {})
    assert [(file.rows, file.bytes) for file in made.files] == [(0, 1)]


def test_saved_batches_are_found_by_name_and_read_by_column(spec):
    table = pa.table({"a": [1, 2], "b": ["x", "y"]})
    with open_partition(spec) as work:
        for name in ("two", "one"):
            work.save_batch(name, table)
        (work.partial / "note.txt").write_text("no batch")
    with open_partition(spec) as work:
        assert work.resumed_batches == 0
        assert work.saved_names() == ["one", "two"]
        assert work.resumed_batches == 2
        assert work.load_batch("one") == table
        assert work.load_batch("two", columns=["b"]) == table.select(["b"])
        (work.partial / "one.parquet").unlink()
        assert work.saved_names() == ["two"]
        assert work.resumed_batches == 2, "what was found once was resumed"


@pytest.mark.parametrize("old", [False, True])
def test_a_generation_of_another_writer_goes_when_it_is_old(spec, old):
    """Its manifest may still come; two days without a write mean that it does not."""
    stranger = spec.folder / f"{'a' * 16}-{'b' * 8}"
    stranger.mkdir(parents=True)
    (stranger / "rows.parquet").write_bytes(b"unfinished")
    when = time.time() - ABANDONED_SECONDS + (-60 if old else 60)
    for path in (stranger / "rows.parquet", stranger):
        os.utime(path, (when, when))
    plain = spec.folder / "notes"
    plain.mkdir()
    made = make(spec, 1)
    assert stranger.exists() != old
    assert plain.exists(), "no generation"
    assert (spec.folder / made.files[0].name).exists()


def test_the_same_content_made_again_keeps_its_files(spec):
    """The generation that is replaced is the new one."""
    first = make(spec, 1)
    again = make(spec, 1)
    assert again.files == first.files
    assert spec.state() == "done"


def test_unfinished_work_of_other_settings_goes_when_the_partition_is_made(spec):
    with open_partition(other(spec)) as work:
        work.save_batch("one", pa.table({"a": [1]}))
        partial = work.partial
    assert partial.exists()
    make(spec, 1)
    assert not partial.exists()
