"""A release that was deleted or damaged is not done, and is put back; what stales what in it."""

import dataclasses
import shutil

import pytest

from alignguard_data.pairs.room import spec as pairs_spec
from alignguard_data.release import room as release
from alignguard_data.release.checks import manifest_text, read_manifest, seal
from alignguard_data.release.reader import train_rows
from alignguard_data.release.room import build_release, verify_release
from alignguard_data.release.withdrawals import withdraw
from alignguard_data.safety import rules as safety
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import MANIFEST
from alignguard_data.storage.planning import why
from tests.alignguard_data.conftest import flip_a_byte
from tests.alignguard_data.tiny_rooms import BOUNDS, RELEASE, RULES


def spec_of(rooms):
    return release.spec(rooms.data, rooms.taxonomy, RELEASE, BOUNDS)


def build(rooms):
    return build_release(rooms.data, rooms.taxonomy, RELEASE, BOUNDS)


def shard_of(folder):
    return next(folder.glob("data/train-*.parquet"))


def cut(path):
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-9])


HARM = {
    "the folder is gone": shutil.rmtree,
    "a shard is gone": lambda folder: shard_of(folder).unlink(),
    "a shard is cut": lambda folder: cut(shard_of(folder)),
    "the card is gone": lambda folder: (folder / "README.md").unlink(),
    "the manifest is gone": lambda folder: (folder / MANIFEST).unlink(),
    "the manifest is damaged": lambda folder: flip_a_byte(folder / MANIFEST),
}


@pytest.mark.parametrize("harm", HARM)
def test_an_incomplete_release_is_not_done_and_is_restored(filled, folder, harm):
    assert spec_of(filled).state() == "done"
    before = manifests.require(filled.data.partition("release"))
    HARM[harm](folder)
    assert spec_of(filled).state() == "stale"
    assert why(spec_of(filled)) == ["its files or manifest are damaged"]
    made = build(filled)
    assert made.content_id == before.content_id
    assert release.list_releases(filled.data) == [folder]
    assert verify_release(folder) == []
    assert spec_of(filled).state() == "done"


def test_the_good_copy_takes_the_place_of_one_whose_bytes_changed(filled, folder):
    """Sizes do not show it, so it is found when the release is built for another reason."""
    flip_a_byte(shard_of(folder))
    filled.data.partition("release").joinpath(MANIFEST).unlink()
    build(filled)
    (kept,) = release.list_releases(filled.data)
    assert verify_release(kept) == []


def test_equal_files_are_the_same_release_though_its_id_was_made_by_another_rule(filled, folder):
    place = folder / MANIFEST
    changed = {**read_manifest(folder), "content_id": "by another rule"}
    place.chmod(0o644)
    place.write_text(manifest_text({**changed, "seal": seal(changed)}))
    filled.data.partition("release").joinpath(MANIFEST).unlink()
    assert build(filled).counts["path"] == folder.name
    assert release.list_releases(filled.data) == [folder]


def test_one_withdrawn_pair_changes_only_the_rows_of_its_category(filled, folder):
    before = train_rows(filled.data, ["lines", "spots"])
    rows = release.rows_of(folder, "train", ("pair_id", "category")).to_pylist()
    taken = next(row["pair_id"] for row in rows if row["category"] == "lines")
    withdraw(filled.data, [taken], "a test")
    build(filled)
    after = train_rows(filled.data, ["lines", "spots"])
    assert before["release: train rows of lines"] != after["release: train rows of lines"]
    assert before["release: train rows of spots"] == after["release: train rows of spots"]


def test_a_release_of_an_older_version_gives_its_content_id_as_the_rows(filled, folder):
    place = filled.data.partition("release")
    old = manifests.require(place)
    dataclasses.replace(old, digests={}).save(place)
    assert train_rows(filled.data, ["lines"]) == {"release": old.content_id}


def test_a_stricter_safety_rule_makes_what_it_judges_stale(filled, folder, monkeypatch):
    concept = filled.taxonomy.concepts[0]
    assert pairs_spec(filled.data, concept, RULES).state() == "done"
    monkeypatch.setattr(safety, "VERSION", "another")
    assert pairs_spec(filled.data, concept, RULES).state() == "stale"
    assert spec_of(filled).state() == "stale"
