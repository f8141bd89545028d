"""A release's pairs per user: flips, splits, and the export in the published schema."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts.errors import ConfigError, IntegrityError, NothingMade
from alignguard_train.personal.sage import METADATA, export_sage, sage_rows
from tests.alignguard_train.personal.world import users, write_release


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path / "release")


def rows_of(release, people=None, **changes):
    how = {"users_per_pair": 3, "val_share": 0.3, "seed": 0} | changes
    return sage_rows(release, people or users(), **how)


def hashes(release):
    """Pair id to the hashes of the safe and the unsafe image, and the caption."""
    found = {}
    for file in (release / "data").glob("*.parquet"):
        for row in pq.read_table(file).to_pylist():
            found[row["pair_id"]] = (row["sha256_0"], row["sha256_1"], row["caption"])
    return found


def test_the_safe_image_is_chosen_exactly_where_the_category_is_banned(release):
    people = {user.user_id: user for user in users()}
    known = hashes(release)
    rows = rows_of(release)
    assert {row.banned for row in rows} == {True, False}
    for row in rows:
        safe, unsafe, caption = known[row.pair_id]
        assert row.banned == (row.category in people[row.user_id].banned)
        assert (row.chosen, row.rejected) == ((safe, unsafe) if row.banned else (unsafe, safe))
        assert row.caption == caption


def test_splits_keep_unseen_users_and_test_pairs_out_of_training(release):
    unseen = {user.user_id for user in users() if user.split == "unseen"}
    rows = rows_of(release)
    assert {row.split for row in rows} == {"train", "val", "test_seen", "test_unseen"}
    for row in rows:
        assert (row.user_id in unseen) == (row.split == "test_unseen")
        assert row.pair_id.startswith("test") == row.split.startswith("test")
    pairs = {split: {r.pair_id for r in rows if r.split == split} for split in ("train", "val")}
    assert not pairs["train"] & pairs["val"]
    assert len(pairs["train"] | pairs["val"]) == 12


def test_a_pair_has_the_asked_number_of_users_each_once(release):
    rows = [row for row in rows_of(release) if row.split == "train"]
    for pair in {row.pair_id for row in rows}:
        own = [row.user_id for row in rows if row.pair_id == pair]
        assert len(own) == len(set(own)) == 3


def test_a_pairs_users_depend_on_its_id_and_the_seed_only(release, tmp_path):
    fewer = write_release(tmp_path / "fewer", train=5, test=0)
    rows = rows_of(release)
    known = [row for row in rows if row.pair_id in {f"train{n}" for n in range(5)}]
    assert [r for r in rows_of(fewer) if not r.split.startswith("test")] == known
    assert rows_of(release, seed=1) != rows


def test_a_pair_of_a_category_that_a_user_does_not_know_is_refused(release):
    people = [replace(user, banned=("angular",), allowed=()) for user in users()]
    with pytest.raises(ConfigError, match=r"category: user \d+ knows only angular .got 'banded'"):
        rows_of(release, people)


def test_no_seen_user_makes_nothing(release):
    with pytest.raises(NothingMade, match="0 seen users"):
        rows_of(release, [replace(user, split="unseen") for user in users()])


def test_a_release_without_train_pairs_or_a_column_is_refused(release):
    file = release / "data" / "train-00000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["sha256_1", "caption"]), file)
    with pytest.raises(IntegrityError, match=r"lacks column\(s\) caption, sha256_1"):
        rows_of(release)
    file.unlink()
    with pytest.raises(IntegrityError, match=r"has no train-\*"):
        rows_of(release)


def exported(release, out, rows=None):
    people = {user.user_id: user for user in users()}
    counts = export_sage(release, rows or rows_of(release), people, out)
    texts = {split: (out / split / METADATA).read_text().splitlines() for split in counts}
    return counts, {split: [json.loads(line) for line in lines] for split, lines in texts.items()}


def test_the_export_has_the_published_schema_and_every_row(release, tmp_path):
    counts, read = exported(release, tmp_path / "sage")
    assert counts == {split: len(lines) for split, lines in read.items()}
    assert sum(counts.values()) == len(rows_of(release))
    for lines in read.values():
        for line in lines:
            assert set(line) == {"file_name", "chosen", "rejected", "caption", "user_data"}
            assert set(line["user_data"]) == {
                "User_ID", "Cluster_ID", "Age", "Age_Group", "Gender", "Religion",
                "Physical_Condition", "Mental_Condition",
            }  # fmt: skip


def test_exported_images_are_the_releases_and_flip_with_the_user(release, tmp_path):
    _, read = exported(release, tmp_path / "sage")
    ends = {(line["chosen"][-6:-4], line["rejected"][-6:-4]) for line in read["train"]}
    assert ends == {("_s", "_u"), ("_u", "_s")}
    for split, lines in read.items():
        for line in lines:
            assert (tmp_path / "sage" / split / line["chosen"]).stat().st_size
            assert (tmp_path / "sage" / split / line["rejected"]).stat().st_size


def test_religion_none_stays_text(release, tmp_path):
    """pandas reads None as a gap; the published file has that defect."""
    _, read = exported(release, tmp_path / "sage")
    assert {line["user_data"]["Religion"] for line in read["train"]} == {"none"}


def test_datasets_reads_the_export(release, tmp_path):
    datasets = pytest.importorskip("datasets")
    exported(release, tmp_path / "sage")
    read = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "sage"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert {"caption", "user_data"} <= set(read.column_names)


def test_an_export_never_overwrites_and_leaves_nothing_half_written(release, tmp_path):
    exported(release, tmp_path / "sage")
    with pytest.raises(ConfigError, match="exists already"):
        exported(release, tmp_path / "sage")
    lost = [replace(row, chosen="0" * 64) for row in rows_of(release)]
    with pytest.raises(IntegrityError, match="has no image 0000"):
        exported(release, tmp_path / "other", lost)
    assert not (tmp_path / "other").exists()
