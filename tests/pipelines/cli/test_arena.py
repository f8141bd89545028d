"""`alignguard arena` in a process of its own: what it prints, writes and refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignguard_data.storage.paths import DataRoot
from tests.alignguard_train.arena.small import cell, write_room, write_summary
from tests.conftest import command_environment, reduced_profile


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    profile = reduced_profile(tmp_path)
    return DataRoot(root=tmp_path / "root", profile=profile.stem)


def arena(data: DataRoot, *options: str) -> subprocess.CompletedProcess[str]:
    folder = data.root
    assert isinstance(folder, Path)
    environment = command_environment(folder, reduced_profile(folder.parent))
    command = [sys.executable, "-m", "pipelines.cli", "arena", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def filled(data: DataRoot) -> Any:
    write_room(data, "release", {"path": "coprov2-test-v0.1.0"})
    cells = (cell("base", "ip_seen", 1.0), cell("merged", "ip_seen", 0.25, n=90))
    return write_summary(data, "evaluation", *cells)


def test_without_any_summary_it_says_what_makes_one(data):
    done = arena(data)
    assert done.returncode == 1
    assert "has no summary to read" in done.stderr
    assert "alignguard attack" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_prints_the_table_and_writes_the_page(data):
    filled(data)
    done = arena(data)
    assert done.returncode == 0, done.stderr
    assert "not measured" in done.stdout
    assert "n = 90, the base model's 100" in done.stdout
    assert "evaluation is stale" in done.stdout
    folder = data.base / "arena"
    assert (folder / "arena.html").read_bytes()
    assert json.loads((folder / "arena.json").read_bytes())["rows"]


def test_json_is_all_that_goes_to_standard_output(data):
    filled(data)
    found = json.loads(arena(data, "--json").stdout)
    rows = {row["name"]: row["cells"] for row in found["rows"]}
    assert rows["merged"]["ip_seen"]["value"] == 0.25
    assert rows["all-single"]["ip_seen"] == {"state": "not measured"}


def test_a_damaged_summary_is_named_and_the_exit_code_says_so(data):
    path = filled(data)
    write_summary(data, "robustness", cell("base", "asr:zoo", 0.5)).write_text("{")
    done = arena(data)
    assert done.returncode == 1
    assert f"{path.parents[1]}/robustness/summary.json is damaged: not JSON" in done.stdout
    assert "100.0 %" in done.stdout
