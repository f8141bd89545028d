"""The import as a whole: sums for any rows, nothing made twice, the old whole after a kill."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alignguard_data.contracts.errors import ConfigError, IntegrityError
from alignguard_data.contracts.records import from_table, schema_of
from alignguard_data.importing.coprov2 import room as coprov2
from alignguard_data.importing.coprov2.audit import Outcome, check_sums
from alignguard_data.importing.coprov2.pairs import REASONS
from alignguard_data.importing.coprov2.room import import_coprov2
from alignguard_data.importing.imported import list_imports, read_images, read_origins, read_pairs
from alignguard_data.importing.records import RejectedRow
from alignguard_data.storage import manifest as manifests
from tests.alignguard_data.conftest import flip_a_byte
from tests.alignguard_data.importing.published import (
    Published,
    pair,
    prompt,
    write_csv,
    write_images,
)

PROMPTS = st.sampled_from(
    ["", "a park", "A park", "a bar in a park", "a field, aged 9", 'a "bar"\n']
)
NAMES = st.one_of(
    st.builds("{}_idx_{}_0.jpg".format, st.sampled_from("us"), st.integers(0, 4)),
    st.sampled_from(["", "7.jpg", "u_idx_1_0.png"]),
)
FIELDS = st.sampled_from(["hate", "Harrasment", "violence, hate", "", "Illegal activity"])
# A row of empty cells is a blank line, which is counted apart.
ROWS = st.lists(st.tuples(PROMPTS, NAMES, FIELDS).filter(any), max_size=25)


@settings(max_examples=25, deadline=None)
@given(train=ROWS, test=ROWS)
def test_every_row_ends_exactly_once(train, test):
    with tempfile.TemporaryDirectory() as folder:
        done = Published(Path(folder)).bring(train, test)
        origins = read_origins(done.folder)
        rejected = from_table(RejectedRow, manifests.read(done.folder, "rejected"))
        pairs = read_pairs(done.folder)
    ends = [place for origin in origins for place in origin.rows]
    ends += [f"{row.file}:{row.row}" for row in rejected]
    given_rows = {"train.csv": train, "test.csv": test}
    assert Counter(ends) == Counter(
        f"{name}:{n}" for name, rows in given_rows.items() for n in range(1, len(rows) + 1)
    )
    rows, reasons = done.audit["rows"], done.audit["reasons"]
    assert rows["total"] == len(train) + len(test) == rows["behind_records"] + rows["rejected"]
    assert rows["behind_records"] == (
        2 * rows["pairs"] + rows["test_prompts"] + rows["further_category_rows"]
    )
    assert sum(reasons.values()) == rows["rejected"]
    assert set(reasons) <= set(REASONS)
    assert (
        sum(row["train"] + row["test"] for row in done.audit["rows_by_category"]) == rows["total"]
    )
    assert len({found.pair_id for found in pairs}) == len(pairs) == len(origins)


@pytest.mark.parametrize("times", [0, 2])
def test_a_row_that_ends_nowhere_or_twice_stops_the_import(tmp_path, times):
    (file,) = coprov2.read_files([write_csv(tmp_path / "test.csv", [prompt("a park")])])
    row = RejectedRow(file=file.name, row=1, line=2, reason="one_sided", detail="")
    outcome = Outcome(files=(file,), categories={}, kept=(), rejected=[row] * times)
    with pytest.raises(IntegrityError, match="exactly once"):
        check_sums(outcome)


def test_the_same_files_again_make_nothing(published):
    first = published.bring(pair(1), [prompt("a field")])
    again = published.bring(pair(1), [prompt("a field")])
    assert (first.made, again.made) == (True, False)
    assert again.manifest == first.manifest
    assert again.audit == first.audit


def test_other_files_are_another_import(published):
    published.bring(pair(1))
    published.bring(pair(2))
    assert len(list_imports(published.data)) == 2


def test_the_place_of_the_files_changes_nothing(published, tmp_path):
    first = published.bring(pair(1), [prompt("a field")])
    (tmp_path / "other").mkdir()
    moved = [
        (tmp_path / name).rename(tmp_path / "other" / name) for name in ("test.csv", "train.csv")
    ]
    assert not import_coprov2(published.data, moved).made
    assert list_imports(published.data) == [first.folder]


def test_a_file_given_twice_is_a_fault(published, tmp_path):
    path = write_csv(tmp_path / "train.csv", pair(1))
    with pytest.raises(ConfigError, match="given twice"):
        import_coprov2(published.data, [path, tmp_path / "." / "train.csv"])


def test_images_are_kept_byte_for_byte(published, tmp_path):
    folder = write_images(tmp_path / "images", pair(1))
    done = published.bring(pair(1), images=folder)
    table = pa.concat_tables(read_images(done.folder))
    kept = {row["name"]: row for row in table.to_pylist()}
    assert table.schema.names == schema_of(coprov2.ImportedImage).names
    for name in ("u_idx_1_0.jpg", "s_idx_1_0.jpg"):
        assert kept[name]["image"] == (folder / name).read_bytes()
        assert len(kept[name]["phash"]) == 16
        assert (kept[name]["width"], kept[name]["height"]) == (24, 24)
    assert kept["u_idx_1_0.jpg"]["side"] == "unsafe"


def test_a_pair_without_both_images_is_rejected_row_by_row(published, tmp_path):
    rows = [row for number in range(1, 6) for row in pair(number)]
    folder = write_images(tmp_path / "images", rows)
    (folder / "u_idx_1_0.jpg").unlink()
    cut = folder / "s_idx_2_0.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    Image.new("RGB", (24, 24)).save(folder / "u_idx_3_0.jpg")
    Image.new("RGB", (24, 24), "white").save(folder / "u_idx_4_0.jpg")
    done = published.bring(rows, images=folder)
    assert done.audit["reasons"] == {
        "black_image": 1,
        "constant_image": 1,
        "image_corrupt": 1,
        "image_missing": 1,
        "twin_rejected": 4,
    }
    assert [found.request_index for found in read_pairs(done.folder)] == [5]
    assert sum(table.num_rows for table in read_images(done.folder)) == 2


def test_a_changed_image_is_another_import(published, tmp_path):
    folder = write_images(tmp_path / "images", pair(1))
    published.bring(pair(1), images=folder)
    Image.linear_gradient("L").save(folder / "u_idx_1_0.jpg")
    assert published.bring(pair(1), images=folder).made


def test_an_image_folder_that_is_none_is_a_fault(published, tmp_path):
    with pytest.raises(ConfigError, match=r"--images.*\n.*gone"):
        published.bring(pair(1), images=tmp_path / "gone")


def test_a_flipped_bit_is_found_by_the_reader(published):
    done = published.bring(pair(1))
    flip_a_byte(done.folder / done.manifest.file("pairs").name)
    with pytest.raises(IntegrityError):
        read_pairs(done.folder)


def test_only_the_owner_can_read_the_data(published):
    published.bring(pair(1))
    assert published.data.base.stat().st_mode & 0o777 == 0o700


KILLED = """
import os, signal, sys
from pathlib import Path
from alignguard_data.importing.coprov2 import room as coprov2
from alignguard_data.storage.paths import DataRoot
coprov2.PAIRS_PER_SHARD = 2
folder = Path(sys.argv[1])
def stages(name, total):
    def progress(units):
        if name == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
    return progress
coprov2.import_coprov2(
    DataRoot(root=folder / "data", profile="tiny"), [folder / "train.csv"],
    images=folder / "images", categories={"Odd": "violence"}, stages=stages,
)
"""


@pytest.mark.parametrize("stage", ["rows", "images"])
def test_a_kill_in_mid_import_keeps_the_old_one_and_the_next_resumes(
    published, tmp_path, monkeypatch, stage
):
    monkeypatch.setattr(coprov2, "PAIRS_PER_SHARD", 2)
    rows = [row for number in range(6) for row in pair(number)]
    folder = write_images(tmp_path / "images", rows)
    old = published.bring(rows, images=folder)
    # Another spelling is another fingerprint for the same files, so for the same folder.
    command = [sys.executable, "-c", KILLED, str(tmp_path), stage]
    killed = subprocess.run(command, check=False, env=dict(os.environ))
    assert killed.returncode == -9
    assert manifests.require(old.folder) == old.manifest
    old.manifest.verify(old.folder)
    done = published.bring(rows, images=folder, categories={"Odd": "violence"})
    assert done.made
    assert done.folder == old.folder
    assert done.manifest.content_id == old.manifest.content_id
    assert not [path for path in done.folder.iterdir() if path.suffix == ".partial"]


def test_a_killed_import_does_not_read_its_images_again(published, tmp_path, monkeypatch):
    monkeypatch.setattr(coprov2, "PAIRS_PER_SHARD", 2)
    rows = [row for number in range(6) for row in pair(number)]
    write_csv(tmp_path / "train.csv", rows)
    folder = write_images(tmp_path / "images", rows)
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "images"], check=False)
    read, real = [], coprov2.read_batch
    monkeypatch.setattr(coprov2, "read_batch", lambda *a: read.append(len(a[1])) or real(*a))
    published.bring(rows, images=folder, categories={"Odd": "violence"})
    assert read == [2, 2]  # of three batches, the first was saved
