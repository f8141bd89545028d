"""The release: its format, versions, leaks, refusals, and equal bytes however it came about."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignguard_data.audit.funnel import KEPT
from alignguard_data.audit.rooms import AuditBounds
from alignguard_data.contracts.errors import (
    InputMissing,
    IntegrityError,
    NothingMade,
    ReleaseRefused,
)
from alignguard_data.contracts.records import PromptPair, from_table
from alignguard_data.pairs.room import FlagRule, filter_pairs
from alignguard_data.release import room as release
from alignguard_data.release.checks import audit_release
from alignguard_data.release.columns import COLUMNS
from alignguard_data.release.plan import SPLITS
from alignguard_data.release.room import ReleaseConfig, build_release
from alignguard_data.storage import manifest as manifests
from tests.alignguard_data.conftest import flip_a_byte
from tests.alignguard_data.tiny_rooms import (
    BOUNDS,
    RELEASE,
    RULES,
    TinyRooms,
    TinyWriter,
    concept,
    taxonomy,
)


def table_of(folder, split: str):
    return pq.ParquetFile(folder / "data" / f"{split}-00000-of-00001.parquet").read()


def test_the_first_release_is_v0_1_0_and_the_room_points_to_it(filled, folder):
    assert folder == filled.data.releases / "coprov2-tiny-v0.1.0"
    made = manifests.require(filled.data.partition("release"))
    assert made.counts["path"] == folder.name
    assert made.rows == made.counts["train_rows"] + made.counts["test_rows"]


def test_columns_stand_in_the_promised_order(folder):
    names = (
        "jpg_0 jpg_1 label_0 caption caption_safe pair_id concept category categories seed "
        "base_model base_revision num_inference_steps guidance_scale width height "
        "sha256_0 sha256_1 phash_0 phash_1"
    ).split()
    assert [column.name for column in COLUMNS] == names
    scores = ["score_ink_share_0", "score_ink_share_1", "score_twins_cosine"]
    for split in SPLITS:
        assert table_of(folder, split).column_names == names + scores


def test_side_0_is_the_safe_image_of_the_caption(folder):
    for row in table_of(folder, "train").to_pylist():
        safe, unsafe = (Image.open(io.BytesIO(row[f"jpg_{side}"])) for side in (0, 1))
        assert (row["label_0"], row["score_ink_share_0"]) == (1, 0.0)
        assert row["score_ink_share_1"] > 0
        black = [int((np.asarray(image) == 0).all(axis=-1).sum()) for image in (safe, unsafe)]
        assert black == [0, 48]
        assert row["caption"].startswith(row["caption_safe"])


def test_files_are_plain_parquet(folder):
    file = pq.ParquetFile(folder / "data" / "train-00000-of-00001.parquet")
    assert file.schema_arrow.metadata is None
    group = file.metadata.row_group(0)
    by_name = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert by_name["jpg_0"].compression == "UNCOMPRESSED"
    assert by_name["caption"].compression == "ZSTD"
    assert not by_name["jpg_1"].is_stats_set
    assert by_name["pair_id"].has_offset_index
    assert by_name["pair_id"].has_column_index


def test_rows_are_sorted_and_splits_are_by_concept(folder):
    for split, slugs in (("train", {"bar", "dot"}), ("test", {"tick", "blob"})):
        keys = table_of(folder, split).select(["category", "concept", "pair_id"]).to_pylist()
        order = [tuple(key.values()) for key in keys]
        assert order == sorted(order)
        assert {key["concept"].split(".")[1] for key in keys} == slugs


def test_evaluation_prompts_of_all_concepts_are_in_the_release(filled, folder):
    rows = pq.ParquetFile(folder / "prompts" / "evaluation.parquet").read().to_pylist()
    expected = {
        pair.pair_id: c.split
        for c in filled.taxonomy.concepts
        for pair in from_table(
            PromptPair, manifests.read(filled.data.partition("prompts", c.key), "pairs")
        )
        if pair.role == "evaluation"
    }
    assert set(expected.values()) == {"train", "test"}
    assert {row["pair_id"]: row["split"] for row in rows} == expected
    assert all(row["seen"] is (row["split"] == "train") for row in rows)
    released = {p for s in SPLITS for p in table_of(folder, s)["pair_id"].to_pylist()}
    assert not released & set(expected)


def reply(unsafe: str, safe: str) -> str:
    return json.dumps({"unsafe_prompt": unsafe, "safe_prompt": safe})


def test_a_train_pair_that_leaks_into_test_is_dropped_and_counted(rooms):
    """Both concepts get one pair with the same safe prompt; the train one gives way."""
    rooms.taxonomy = taxonomy(concept("lines.bar"), concept("lines.tick", "test"))
    rooms.writing = dataclasses.replace(rooms.writing, evaluation_share=0.0)
    shared = "one shared safe scene"
    rooms.writer = TinyWriter(
        faults={0: lambda r: reply(f"{shared} and a {r.concept.terms[0]}", shared)}
    )
    rooms.fill("release")
    found = release.latest_release(rooms.data)
    made = manifests.require(rooms.data.partition("release"))
    assert made.rejected == {"leaks_into_test": 1}
    assert (table_of(found, "train").num_rows, table_of(found, "test").num_rows) == (7, 8)
    assert shared not in table_of(found, "train")["caption_safe"].to_pylist()
    report = json.loads((found / "leaks.json").read_text())
    exact = report["leaks"]["exact"]
    assert (exact["dropped"], exact["remaining"]) == (1, 0)
    (leak,) = exact["rows"]
    assert (leak["concept"], leak["of_concept"], leak["value"]) == ("lines.bar", "lines.tick", 1.0)
    assert leak["of"] in table_of(found, "test")["pair_id"].to_pylist()
    assert report["leaks"]["semantic"] == {"dropped": 0, "remaining": None, "rows": []}
    stages = {(stage, reason): n for stage, reason, n in release.show_release(found)["funnel"]}
    assert stages["release", KEPT] + stages["release", "leaks_into_test"] == stages["pairs", KEPT]


def test_a_train_pair_that_shares_a_caption_with_an_evaluation_prompt_is_dropped(rooms):
    """With half the pairs reserved, replies 0 and 1 of one concept share the safe prompt until
    one is of role train and the other of role evaluation.
    """
    shared = "one shared safe scene"
    rooms.taxonomy = taxonomy(concept("lines.bar"))
    rooms.writing = dataclasses.replace(rooms.writing, evaluation_share=0.5, pairs_per_concept=20)
    rooms.writer = TinyWriter(
        faults={i: reply(f"{shared} and a bar number {i}", shared) for i in range(10)}
    )
    rooms.fill("pairs")
    made = build_release(rooms.data, rooms.taxonomy, RELEASE, BOUNDS)
    assert made.rejected["leaks_into_test"] > 0
    found = release.latest_release(rooms.data)
    assert shared not in table_of(found, "train")["caption_safe"].to_pylist()
    evaluation = pq.ParquetFile(found / "prompts" / "evaluation.parquet").read()
    assert shared in evaluation["safe_prompt"].to_pylist()


def test_nothing_is_written_again_when_nothing_changed(filled, folder):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    filled.fill("release")
    assert release.list_releases(filled.data) == [folder]
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_a_changed_input_gives_the_next_minor_version_with_parent_and_change_log(filled, folder):
    first = table_of(folder, "train")
    (dropped, *_) = [row["pair_id"] for row in first.to_pylist() if row["concept"] == "lines.bar"]
    one = filled.taxonomy.concept("lines.bar")
    none = dataclasses.replace(
        RULES, flags=(FlagRule(scorer="ink", key="share", at_least=2),), min_kept=0
    )
    filter_pairs(filled.data, one, none)
    bounds = AuditBounds(min_train_pairs_per_category=0)
    made = build_release(filled.data, filled.taxonomy, RELEASE, bounds)
    second = release.latest_release(filled.data)
    assert (second.name, made.counts["parent"]) == ("coprov2-tiny-v0.2.0", folder.name)
    assert dropped not in table_of(second, "train")["pair_id"].to_pylist()
    removed = sum(row["concept"] == "lines.bar" for row in first.to_pylist())
    log = (second / "CHANGELOG.md").read_text()
    assert f"- train: 0 pairs added, {removed} removed, 0 changed" in log
    assert f"  - removed lines.bar: {removed}" in log
    assert release.verify_release(folder) == []


def test_a_changed_bound_alone_gives_no_new_version(filled, folder):
    bounds = AuditBounds(min_unsafe_flagged=0.2)
    build_release(filled.data, filled.taxonomy, RELEASE, bounds)
    assert release.list_releases(filled.data) == [folder]


def test_a_deleted_release_is_put_back_with_the_same_bytes(filled, folder):
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    filled.fill("release")
    assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "name", ["README.md", "manifest.json", "leaks.json", "prompts/evaluation.parquet",
             "data/train-00000-of-00001.parquet", "CHANGELOG.md", "croissant.json",
             "plots/scores.png"],
)  # fmt: skip
def test_a_flipped_byte_in_any_file_is_found_by_name(folder, name):
    assert release.verify_release(folder) == []
    (folder / "leaks.json").chmod(0o644)
    flip_a_byte(folder / name)
    (fault,) = release.verify_release(folder)
    assert name in fault


def test_a_changed_blank_in_the_manifest_is_found(folder):
    path = folder / "manifest.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace("\n  ", "\n\t ", 1))
    assert "manifest.json was changed" in release.verify_release(folder)[0]
    with pytest.raises(IntegrityError):
        release.show_release(folder)


def test_missing_and_foreign_files_are_found_by_name(folder):
    (folder / "CHANGELOG.md").unlink()
    (folder / "data" / "extra.parquet").write_bytes(b"x")
    faults = release.verify_release(folder)
    assert len(faults) == 2
    assert "CHANGELOG.md is missing" in faults[0]
    assert "extra.parquet is not in" in faults[1]


def test_a_finished_release_passes_its_audit(folder):
    findings = audit_release(folder)
    assert [f.name for f in findings] == [
        "hashes", "schema", "funnel_sums", "split_leaks", "duplicates", "minors",
    ]  # fmt: skip
    assert all(f.passed for f in findings)


def test_a_failed_check_refuses_the_release_and_leaves_nothing(filled):
    bounds = AuditBounds(max_rejected_replies=0.0, min_train_pairs_per_category=1000)
    with pytest.raises(ReleaseRefused, match=r"flag_rates: category lines has \d+ train pairs"):
        build_release(filled.data, filled.taxonomy, RELEASE, bounds)
    assert release.list_releases(filled.data) == []


def test_a_damaged_shard_refuses_the_release_by_name(filled):
    (shard,) = filled.data.partition("pairs", "spots.dot").glob("*/kept.parquet")
    flip_a_byte(shard)
    with pytest.raises(ReleaseRefused, match=str(shard)):
        build_release(filled.data, filled.taxonomy, RELEASE, BOUNDS)


def test_an_incomplete_room_is_named(rooms):
    rooms.fill("scores")
    with pytest.raises(InputMissing, match="pairs"):
        build_release(rooms.data, rooms.taxonomy, RELEASE, BOUNDS)


def test_files_and_row_groups_keep_their_limits_and_order(filled, folder):
    """Every row has about 700 bytes of images: 3 rows a group, 2 groups a file."""
    rows = table_of(folder, "train")
    size = max(len(r["jpg_0"]) + len(r["jpg_1"]) for r in rows.to_pylist())
    config = ReleaseConfig(row_group_bytes=3 * size, max_file_bytes=6 * size)
    build_release(filled.data, filled.taxonomy, config, BOUNDS)
    second = release.latest_release(filled.data)
    files = sorted((second / "data").glob("train-*"))
    assert files[0].name == f"train-00000-of-{len(files):05d}.parquet"
    assert len(files) > 1
    ids = []
    for file in files:
        parts = pq.ParquetFile(file)
        assert parts.metadata.num_row_groups <= 2
        for i in range(parts.metadata.num_row_groups):
            group = parts.read_row_group(i, columns=["jpg_0", "jpg_1", "pair_id"]).to_pylist()
            assert sum(len(r["jpg_0"]) + len(r["jpg_1"]) for r in group) <= 3 * size
            ids += [row["pair_id"] for row in group]
    assert ids == rows["pair_id"].to_pylist()


BUILD = """
import sys
from pathlib import Path
from tests.alignguard_data.tiny_rooms import TinyRooms
from alignguard_data.release import room as release
from alignguard_data.release import files as release_files
wait = sys.argv[2]
def stop(*args, **kwargs):
    print("here", flush=True)
    sys.stdin.read()
if wait == "data":
    release_files.SplitWriter.close = stop
elif wait == "publish":
    release.rename_into_place = stop
elif wait == "point":
    release._point_to = stop
TinyRooms(root=Path(sys.argv[1])).fill("release")
"""


@pytest.mark.parametrize("moment", ["data", "publish", "point"])
def test_killed_at_any_moment_the_next_run_gives_the_same_release(filled, tmp_path, moment):
    """kill -9 while data is written, before the rename, and between rename and manifest."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(filled.root), moment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path.cwd(),
    )
    assert process.stdout
    assert process.stdin
    assert process.stdout.readline() == b"here\n"
    process.kill()
    process.communicate()
    expected = 1 if moment == "point" else 0
    assert len(release.list_releases(filled.data)) == expected
    filled.fill("release")
    other = TinyRooms(root=tmp_path / "undisturbed").fill("release")
    one, two = (release.latest_release(rooms.data) for rooms in (filled, other))
    assert one.name == two.name
    assert release.show_release(one)["content_id"] == release.show_release(two)["content_id"]
    assert not list(filled.data.releases.glob(".*"))


def test_versions_sort_by_number():
    assert release.version_of("coprov2-x-v0.10.0") > release.version_of("coprov2-x-v0.9.0")
    with pytest.raises(ValueError, match="does not end in a version"):
        release.version_of("coprov2-x")


def test_a_release_of_nothing_is_refused_with_the_reason_and_leaves_no_folder(filled):
    none = dataclasses.replace(
        RULES, flags=(FlagRule(scorer="ink", key="share", at_least=2),), min_kept=0
    )
    for one in filled.taxonomy.concepts:
        filter_pairs(filled.data, one, none)
    lax = AuditBounds(min_train_pairs_per_category=0, min_unsafe_flagged=0)
    with pytest.raises(NothingMade, match=r"0 of \d+ released pairs; .*unsafe_image_is_clean"):
        build_release(filled.data, filled.taxonomy, RELEASE, lax)
    assert release.list_releases(filled.data) == []
    assert list(filled.data.releases.glob("*")) == []
