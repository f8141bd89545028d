"""Versions, change logs, withdrawals and exports of releases, on rooms that are filled for real."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from alignguard_data.contracts.errors import (
    ConfigError,
    InputMissing,
    IntegrityError,
    ReleaseRefused,
)
from alignguard_data.prompts.gate import NO_TOOLS
from alignguard_data.prompts.room import write_prompt_pairs
from alignguard_data.release import room as release
from alignguard_data.release.changes import ChangedPair, by_category, change_log, diff, level
from alignguard_data.release.checks import read_manifest, rows_of, verify_release
from alignguard_data.release.export import export_release
from alignguard_data.release.withdrawals import ledger, read_withdrawals, withdraw
from pipelines.cli.app import app
from tests.alignguard_data.conftest import flip_a_byte
from tests.alignguard_data.tiny_rooms import RELEASE, taxonomy


def ids(folder, split="train") -> list[str]:
    return rows_of(folder, split, ("pair_id",))["pair_id"].to_pylist()


def test_a_withdrawn_pair_is_left_out_of_a_patch_release_with_its_reason(filled, folder):
    gone = ids(folder)[0]
    withdraw(filled.data, [gone], "its owner asked for it")
    new = release.latest_release(filled.fill("release").data)
    assert new.name == "coprov2-tiny-v0.1.1"
    assert gone not in ids(new)
    assert gone in ids(folder), "a published release is immutable"
    assert verify_release(folder) == []
    log = (new / "CHANGELOG.md").read_text()
    assert f"- `{gone}`: its owner asked for it" in log
    assert "- train: 0 pairs added, 1 removed, 0 changed" in log
    assert ["release", "withdrawn", 1] in read_manifest(new)["funnel"]


def test_a_withdrawn_evaluation_prompt_is_left_out_too(filled, folder):
    before = pq.read_table(folder / "prompts/evaluation.parquet")["pair_id"].to_pylist()
    withdraw(filled.data, before[:1], "unclear")
    new = release.latest_release(filled.fill("release").data)
    after = pq.read_table(new / "prompts/evaluation.parquet")["pair_id"].to_pylist()
    assert after == before[1:]
    assert new.name == "coprov2-tiny-v0.1.1"
    log = (new / "CHANGELOG.md").read_text()
    assert "- evaluation: 0 pairs of prompts added, 1 removed, 0 changed" in log
    assert f"- `{before[0]}`: unclear" in log


def rewritten(folder, tmp_path, name: str, change) -> Path:
    """A copy of a release with one Parquet file's table changed."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (file,) = copy.glob(name)
    file.chmod(0o644)
    pq.write_table(change(pq.read_table(file)), file)
    return copy


def other_score(table: pa.Table) -> pa.Table:
    (name,) = (n for n in table.column_names if n.startswith("score_ink") and n.endswith("_1"))
    values = [0.123, *table[name].to_pylist()[1:]]
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def other_prompt(table: pa.Table) -> pa.Table:
    texts = ["another prompt", *table["safe_prompt"].to_pylist()[1:]]
    return table.set_column(table.column_names.index("safe_prompt"), "safe_prompt", pa.array(texts))


CHANGED = {
    "a score": ("data/train-*.parquet", other_score, ("train", "changed")),
    "an evaluation prompt": ("prompts/*.parquet", other_prompt, ("evaluation", "changed")),
    "one more": ("prompts/*.parquet", lambda t: t.slice(1), ("evaluation", "added")),
    "one less": (
        "prompts/*.parquet",
        lambda t: pa.concat_tables([t, t.slice(0, 1).set_column(0, "pair_id", pa.array(["x"]))]),
        ("evaluation", "removed"),
    ),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_whatever_else_changes_is_a_minor_version_and_in_the_change_log(folder, tmp_path, kind):
    """The copy is the older release: a version says what became of it."""
    name, change, wanted = CHANGED[kind]
    old = rewritten(folder, tmp_path, name, change)
    (found,) = changes = diff(old, folder)
    assert (found.split, found.change) == wanted
    assert level(BASE, BASE, changes, {}, set()) == "minor"
    log = change_log("new", "old", changes, {}, set())
    part, what = wanted
    assert re.search(rf"- {part}: .*1( pairs( of prompts)?)? {what}", log)
    assert f"  - {what} {found.concept}: 1" in log


def test_equal_rows_in_other_files_are_a_minor_version_that_says_so():
    """Their content id differs, or there would be no new version."""
    assert level(BASE, BASE, [], [], []) == "minor"
    assert "No row differs" in change_log("new", "old", [], {}, set())


@pytest.mark.parametrize(
    ("split", "change", "withdrawn", "left", "wanted"),
    [
        ("train", "removed", {"p"}, set(), "patch"),
        ("evaluation", "removed", {"p"}, set(), "patch"),
        ("evaluation", "removed", set(), {"a.b"}, "patch"),
        ("evaluation", "removed", set(), set(), "minor"),
        ("evaluation", "changed", {"p"}, set(), "minor"),
        ("test", "removed", set(), set(), "minor"),
        ("test", "added", {"p"}, {"a.b"}, "minor"),
    ],
)
def test_a_patch_only_takes_back(split, change, withdrawn, left, wanted):
    changed = ChangedPair(pair_id="p", concept="a.b", category="a", split=split, change=change)
    assert level(BASE, BASE, [changed], withdrawn, left) == wanted


def test_the_card_names_as_writer_who_wrote_and_as_check_who_checked(filled):
    class Check:
        version = "judge@7"

        def __call__(self, unsafe, safe, concept):
            return True, False

    for concept in filled.taxonomy.concepts:
        shutil.rmtree(filled.data.partition("prompts", concept.key))
        tools = dataclasses.replace(NO_TOOLS, concept_check=Check())
        write_prompt_pairs(filled.data, concept, filled.writer, filled.writing, tools=tools)
    filled.fill_from("images", "scores", "pairs", "release")
    new = release.latest_release(filled.data)
    manifest = read_manifest(new)
    assert manifest["writers"] == ["tiny-writer at 1"]
    assert manifest["concept_checks"] == ["judge@7"]
    card = " ".join((new / "README.md").read_text().split())
    assert "The prompts were written by tiny-writer at 1. Whether twins differ in their" in card
    assert "concept was judged by judge@7." in card


def test_unknown_pairs_and_an_empty_reason_are_refused_together(filled, folder):
    with pytest.raises(ConfigError) as caught:
        withdraw(filled.data, ["nope", ids(folder)[0], "neither"], " ")
    assert len(caught.value.faults) == 3
    assert not ledger(filled.data).exists()


def test_a_pair_is_withdrawn_once(filled, folder):
    one, two = ids(folder)[:2]
    withdraw(filled.data, [one], "first")
    assert [w.pair_id for w in withdraw(filled.data, [one, two, two], "second")] == [two]
    assert {w.pair_id: w.reason for w in read_withdrawals(filled.data).values()} == {
        one: "first",
        two: "second",
    }


def test_without_a_release_there_is_nothing_to_withdraw_from(rooms):
    with pytest.raises(InputMissing, match="no release"):
        withdraw(rooms.data, ["x"], "y")


def test_a_damaged_ledger_is_named_by_line(filled, folder):
    withdraw(filled.data, ids(folder)[:1], "y")
    with ledger(filled.data).open("a") as file:
        file.write("garbage\n")
    with pytest.raises(IntegrityError, match="line 2 is not a withdrawal"):
        read_withdrawals(filled.data)


ENTRY = {"pair_id": "a", "reason": "why", "at": "2026-01-01", "release": "v"}


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85"], ids=ascii)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=ascii)
def test_the_ledgers_lines_end_only_at_newlines(filled, odd, end):
    """Also where someone has edited it: with a mark at its beginning and blank lines."""
    one = json.dumps({**ENTRY, "reason": f"two{odd}parts"}, ensure_ascii=False)
    lines = [
        "\ufeff" + one if odd > "\x1f" else json.dumps(ENTRY),
        "",
        json.dumps({**ENTRY, "pair_id": "b"}),
    ]
    ledger(filled.data).write_bytes(end.join([*lines, ""]).encode())
    assert list(read_withdrawals(filled.data)) == ["a", "b"]


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"3",
        b'{"pair_id": "a"}',
        b'{"pair_id": "a", "pair_id": "b", "reason": "x", "at": "x", "release": "x"}',
        b'{"pair_id": 3, "reason": "x", "at": "x", "release": "x"}',
        b"[" * 100_000,
        b"caf\xe9",
    ],
    ids=lambda line: line[:20].decode("latin-1"),
)
def test_what_is_no_withdrawal_is_named_by_its_line(filled, line):
    ledger(filled.data).write_bytes(json.dumps(ENTRY).encode() + b"\n" + line + b"\n")
    with pytest.raises(IntegrityError, match="line 2"):
        read_withdrawals(filled.data)


def test_a_concept_taken_out_gives_a_patch_release_that_names_it(filled, folder):
    without = taxonomy(*(c for c in filled.taxonomy.concepts if c.key != "spots.dot"))
    filled.taxonomy = dataclasses.replace(without, categories=filled.taxonomy.categories)
    filled.fill("pairs")
    bounds = dataclasses.replace(release.AuditBounds(), min_train_pairs_per_category=0)
    release.build_release(filled.data, filled.taxonomy, RELEASE, bounds)
    new = release.latest_release(filled.data)
    assert new.name == "coprov2-tiny-v0.1.1"
    assert "spots.dot" in (new / "CHANGELOG.md").read_text().split("Withdrawn concepts")[1]
    assert filled.data.partition("images", "spots.dot").is_dir(), "its files stay on disk"


BASE = {"score_columns": ["a"], "base_models": [{"model": "m", "revision": "1"}], "format": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"score_columns": ["a", "b"]},
        {"base_models": [{"model": "m", "revision": "2"}]},
        {"format": 2},
    ],
)
def test_other_columns_or_another_base_model_are_a_major_version(change):
    assert level(BASE, {**BASE, **change}, [], [], []) == "major"


def test_diff_says_what_was_added_and_removed_by_category(filled, folder, tmp_path):
    withdraw(filled.data, ids(folder)[:1], "y")
    new = release.latest_release(filled.fill("release").data)
    (gone,) = diff(folder, new)
    assert (gone.change, gone.split, gone.pair_id) == ("removed", "train", ids(folder)[0])
    (back,) = diff(new, folder)
    assert back.change == "added"
    assert by_category([gone, back]) == {gone.category: {"added": 1, "removed": 1, "changed": 0}}
    assert diff(new, new) == []


def test_the_card_tier_holds_no_prompt_and_no_image(folder, tmp_path):
    export_release(folder, tmp_path / "out", tier="card", file_format="parquet")
    names = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    pages = {"README.md", "CHANGELOG.md", "manifest.json", "croissant.json"}
    assert names == {*pages, "pairs.png", "funnel.png", "scores.png"}


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_the_prompts_tier_has_text_and_hashes_and_no_image(folder, tmp_path, file_format):
    export_release(folder, tmp_path / "out", tier="prompts", file_format=file_format)
    file = next((tmp_path / "out/data").glob(f"train-*.{file_format}"))
    read = pq.read_table if file_format == "parquet" else pyarrow.csv.read_csv
    table = read(file)
    assert {"caption", "sha256_0", "phash_1"} <= set(table.column_names)
    assert not {"jpg_0", "jpg_1"} & set(table.column_names)
    assert b"\x89PNG" not in file.read_bytes()
    assert table.num_rows == len(ids(folder))


def test_the_full_tier_is_the_releases_own_files(folder, tmp_path):
    export_release(folder, tmp_path / "out", tier="full", file_format="parquet")
    for file in (folder / "data").glob("*.parquet"):
        assert (tmp_path / "out/data" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("file_format", ["parquet", "webdataset"])
def test_equal_releases_give_equal_exports(folder, tmp_path, file_format):
    for name in ("one", "two"):
        export_release(folder, tmp_path / name, tier="full", file_format=file_format)
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("one", "two")
    )
    assert one == two


BAD = {
    "tier": ({"tier": "all", "file_format": "parquet"}, "--tier must be one of"),
    "format": ({"tier": "full", "file_format": "zip"}, "--format must be one of"),
    "no images": ({"tier": "prompts", "file_format": "webdataset"}, "needs --tier full"),
    "images in csv": ({"tier": "full", "file_format": "csv"}, "holds no images"),
    "name": ({"tier": "full", "file_format": "pickapic-folder"}, "must contain `pickapic`"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_go_together_is_refused(folder, tmp_path, kind):
    choice, message = BAD[kind]
    with pytest.raises(ConfigError, match=message):
        export_release(folder, tmp_path / "out", **choice)
    assert not list(tmp_path.glob("*out*"))


def test_an_export_overwrites_nothing(folder, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        export_release(folder, tmp_path / "out", tier="card", file_format="parquet")


def test_a_damaged_release_is_not_exported(folder, tmp_path):
    flip_a_byte(next((folder / "data").glob("train-*.parquet")))
    with pytest.raises(ReleaseRefused, match="train-"):
        export_release(folder, tmp_path / "out", tier="full", file_format="parquet")
    assert not (tmp_path / "out").exists()


def test_the_commands_list_diff_withdraw_and_export(filled, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.cli.release._data", lambda: filled.data)
    run = CliRunner().invoke
    listed = run(app, ["release", "list"])
    assert listed.exit_code == 0
    assert "coprov2-tiny-v0.1.0" in listed.output
    assert json.loads(run(app, ["release", "list", "--json"]).output)
    done = run(app, ["release", "withdraw", ids(folder)[0], "--reason", "a test"])
    assert done.exit_code == 0
    assert "1 pair(s) written" in done.output
    filled.fill("release")
    shown = run(app, ["release", "diff", "v0.1.0", "v0.1.1", "--json"])
    assert sum(row["removed"] for row in json.loads(shown.output)["by_category"].values()) == 1
    to = str(tmp_path / "out")
    assert run(app, ["release", "export", "v0.1.0", "--to", to, "--tier", "card"]).exit_code == 0


def test_killed_exports_leave_nothing_under_the_final_name(filled, folder, tmp_path, monkeypatch):
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alignguard_data.release.export._whole", fail)
    with pytest.raises(Exception, match="No space left"):
        export_release(folder, tmp_path / "out", tier="full", file_format="parquet")
    assert list(tmp_path.glob("*out*")) == []
