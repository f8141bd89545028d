"""The console script: help that teaches, clear faults, JSON for machines."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pipelines.cli.app import app
from tests.conftest import command_environment, reduced_profile


def alignguard(root, profile, *arguments, **changes):
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        env={**command_environment(root, profile), **changes},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("command", ["run", "status", "doctor", "sql", "report", "ui", "release"])
def test_every_command_has_help(command):
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert len(done.output) > 200


def test_a_broken_profile_is_a_list_of_faults_and_no_traceback(tmp_path):
    profile = reduced_profile(tmp_path, sampling__batch_size="x", writing__min_words="y")
    done = alignguard(tmp_path / "data", profile, "status")
    assert done.returncode == 1
    assert "2 fault(s)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_root_that_cannot_be_written_is_one_clear_line(tmp_path, reduced):
    (tmp_path / "file").write_text("")
    done = alignguard(tmp_path / "file" / "data", reduced, "run", DAGSTER_HOME=str(tmp_path / "d"))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_status_before_the_first_run_says_missing(tmp_path, reduced):
    done = alignguard(tmp_path / "data", reduced, "status", "--json")
    rooms = json.loads(done.stdout)["rooms"]
    assert {state for keys in rooms.values() for state in keys.values()} == {"missing"}
    assert done.returncode == 0


def test_doctor_lists_what_it_looked_at(tmp_path, reduced):
    done = alignguard(tmp_path / "data", reduced, "doctor", "--json")
    found = {check["what"]: check["state"] for check in json.loads(done.stdout)}
    assert found["torch"] == "ok"
    assert found["profile standin"] == "ok"


def test_sql_without_an_index_says_what_to_run(tmp_path, reduced):
    done = alignguard(tmp_path / "data", reduced, "sql", "SELECT 1")
    assert done.returncode == 1
    assert "materialize" in done.stderr or "run" in done.stderr
