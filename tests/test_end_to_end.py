"""The whole graph on a reduced stand-in: one command, killed at several moments, same content."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import command_environment, reduced_profile
from tests.pipelines.test_columns_page import unexplained

ALIGNGUARD = [sys.executable, "-m", "pipelines.cli"]
WHOLE_RUN_SECONDS = 900


def run(root: Path, profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ALIGNGUARD, *(arguments or ("run",))],
        env=command_environment(root, profile),
        capture_output=True,
        text=True,
        timeout=WHOLE_RUN_SECONDS,
    )


def content_ids(root: Path) -> dict[str, str]:
    """Content id of every partition and release; DuckDB's file bytes are its own affair."""
    found = {}
    for path in sorted(root.glob("reduced/*/*/manifest.json")):
        place = path.parent.relative_to(root).as_posix()
        if not place.startswith(("reduced/index/", "reduced/robustness/", "reduced/reemergence/")):
            found[place] = json.loads(path.read_text())["content_id"]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Data root, profile and output of one undisturbed run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    profile = reduced_profile(folder / "profile")
    done = run(folder / "data", profile)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "data", profile, done.stdout


def test_no_written_table_has_a_column_without_a_meaning(undisturbed):
    root, _, _ = undisturbed
    rooms = {file.relative_to(root / "reduced").parts[0] for file in root.rglob("*.parquet")}
    assert rooms >= {"experts", "merge", "evaluation", "encodings", "index", "releases"}
    assert not unexplained(root / "reduced")


def test_one_command_goes_from_concepts_to_a_measured_adapter(undisturbed):
    root, _, output = undisturbed
    summary = json.loads((root / "reduced/evaluation/summary.json").read_text())
    assert set(summary) == {
        "ip", "preservation", "matrix", "paired", "distributions", "prompt_sets", "release",
        "adapter", "report", "evaluation", "seconds", "ssr_n", "arena",
    }  # fmt: skip
    assert set(summary["ip"]) == {"base", "merged", "experts"}
    assert len(summary["ip"]["experts"]) == 2
    assert set(summary["ip"]["base"]["unsafe"]) == {"value", "low", "high", "n"}
    assert summary["release"] == "v0.1.0"
    for name in ("adapter", "report"):
        assert not Path(summary[name]).is_absolute()  # the root may move
        assert (root / summary[name]).is_file()
        assert str(root / summary[name]) in output


def test_a_second_run_finds_everything_up_to_date(undisturbed):
    root, profile, _ = undisturbed
    before = content_ids(root)
    started = time.monotonic()
    done = run(root, profile)
    assert "Everything is up to date." in done.stdout
    assert done.stdout.count("✓") == 10, "a room without partitions has no line"
    assert content_ids(root) == before
    assert time.monotonic() - started < 60


def test_attacks_are_no_part_of_a_run_and_a_command_makes_them(undisturbed):
    root, profile, _ = undisturbed
    states = json.loads(run(root, profile, "status", "--json").stdout)["rooms"]
    assert states["robustness"] == {"all": "missing"}
    done = run(root, profile, "attack")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((root / "reduced/robustness/summary.json").read_text())
    assert set(summary["matrix"]) == {"no_attack", "shuffle", "ring_a_bell"}
    assert set(summary["matrix"]["shuffle"]) == {"base", "merged"}
    assert str(root / summary["report"]) in done.stdout
    again = run(root, profile, "attack")
    assert "up to date" in again.stdout
    assert json.loads((root / "reduced/robustness/summary.json").read_text()) == summary


def test_fine_tuning_is_no_part_of_a_run_and_a_command_measures_it(undisturbed):
    root, profile, _ = undisturbed
    states = json.loads(run(root, profile, "status", "--json").stdout)["rooms"]
    assert states["reemergence"] == {"all": "missing"}
    done = run(root, profile, "reemergence")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((root / "reduced/reemergence/summary.json").read_text())
    assert set(summary["relapse"]) == {"merged", "merge:average"}
    assert set(summary["relapse"]["merged"]) == {"full", "stacked", "modular"}
    assert str(root / summary["report"]) in done.stdout
    assert "up to date" in run(root, profile, "reemergence").stdout


def test_another_matrix_is_made_beside_the_profiles(undisturbed):
    root, profile, _ = undisturbed
    made = root / "reduced/robustness/all/manifest.json"
    before = made.read_bytes()
    options = ("--attack", "random_n", "--target", "all-single", "--cases", "1", "--json")
    done = run(root, profile, "attack", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert {row["target"] for row in found["metrics"]} == {"base", "all-single"}
    assert {row["attack"] for row in found["metrics"]} == {"no_attack", "random_n"}
    assert made.read_bytes() == before


def test_status_says_done_for_every_partition(undisturbed):
    root, profile, _ = undisturbed
    done = run(root, profile, "status", "--json", "--verify")
    rooms = json.loads(done.stdout)["rooms"]
    assert len(rooms) == 14
    assert {state for keys in rooms.values() for state in keys.values()} == {"done"}


@pytest.mark.parametrize("name", ["summary.json", "MODEL_CARD.md"])
def test_a_deleted_summary_makes_the_evaluation_stale_and_is_written_again(undisturbed, name):
    """Nothing is measured again for it."""
    root, profile, _ = undisturbed
    path, manifest = (root / "reduced/evaluation" / n for n in (name, "all/manifest.json"))
    before, made = path.read_text(), manifest.read_bytes()
    path.unlink()
    rooms = json.loads(run(root, profile, "status", "--json").stdout)["rooms"]
    assert rooms["evaluation"] == {"all": "stale"}
    assert {s for r, keys in rooms.items() if r != "evaluation" for s in keys.values()} == {"done"}
    done = run(root, profile)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (path.read_text(), manifest.read_bytes()) == (before, made)
    assert run(root, profile, "status").returncode == 0


def test_data_folders_are_private(undisturbed):
    root, _, _ = undisturbed
    assert (root / "reduced").stat().st_mode & 0o077 == 0


def anything(pattern: str) -> Callable[[Path], bool]:
    return lambda root: any(root.glob(pattern))


MOMENTS = {
    "prompts": "reduced/prompts/*/manifest.json",
    "images": "reduced/images/*/.*.partial/*.parquet",
    "scores": "reduced/scores/*/.*.partial/*.parquet",
    "releases": "reduced/releases/.*",
    "experts": "reduced/experts/*/.*.partial/*",
    "evaluation": "reduced/evaluation/all/.*.partial/*",
}
"""Folder of the room that is being made to the file that shows it."""


def killed_in(root: Path, profile: Path, folder: str) -> bool:
    """Kill a run while this room works. A run that was too quick is asked to make it again."""
    for _ in range(3):
        if kill_when(root, profile, anything(MOMENTS[folder])):
            return True
        shutil.rmtree(root / "reduced" / folder)
    return False


def kill_when(root: Path, profile: Path, reached: Callable[[Path], bool]) -> bool:
    """Start a run, kill -9 it as soon as ``reached``; False when it ended first."""
    process = subprocess.Popen(
        [*ALIGNGUARD, "run"],
        env=command_environment(root, profile),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            if reached(root):
                return True
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    return False


# Seven starts of the program: minutes on two cores, more where others share them.
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_it_goes_on_to_the_same_content(undisturbed, tmp_path):
    calm_root, profile, _ = undisturbed
    root = tmp_path / "data"
    killed = [folder for folder in MOMENTS if killed_in(root, profile, folder)]
    assert killed == list(MOMENTS)
    done = run(root, profile)
    assert done.returncode == 0, done.stdout + done.stderr
    assert content_ids(root) == content_ids(calm_root)


def test_a_flipped_byte_is_found_by_name(undisturbed):
    root, profile, _ = undisturbed
    shard = next(root.glob("reduced/images/*/*/images.parquet"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    sound = shard.read_bytes()
    shard.write_bytes(content)
    try:
        done = run(root, profile, "status", "--verify")
    finally:
        shard.write_bytes(sound)
    assert done.returncode == 1
    assert str(shard) in done.stdout.replace("\n", "")


def test_labels_of_its_images_give_a_threshold_and_a_plot(undisturbed, tmp_path):
    root, profile, _ = undisturbed
    asked = run(root, profile, "sql", "select image_id, side as label from images", "--json")
    rows = [f"{row['image_id']},{row['label']}" for row in json.loads(asked.stdout)]
    (tmp_path / "labels.csv").write_text("\n".join(["image_id,label", *rows, "elsewhere,safe"]))
    done = run(root, profile, "calibrate", str(tmp_path / "labels.csv"), "--json")
    found = json.loads(done.stdout)
    assert (found["labels"], found["without_score"]) == (len(rows) + 1, 1)
    glyphs = next(score for score in found["scores"] if score["scorer"] == "glyphs")
    assert glyphs["roc_auc"]["value"] > 0.9
    assert Path(found["file"]).is_file()
    assert Path(found["plot"]).is_file()


def test_a_pair_tells_its_story_and_draws_it_blurred(undisturbed, tmp_path):
    root, profile, _ = undisturbed
    (row,) = json.loads(
        run(root, profile, "sql", "select min(pair_id) as id from kept_pairs", "--json").stdout
    )
    picture = tmp_path / "pair.png"
    message = run(root, profile, "show", row["id"], "--out", str(picture)).stdout
    assert row["id"] in message
    assert "v0.1.0" in message
    assert "glyphs" in message
    assert picture.read_bytes().startswith(b"\x89PNG")
