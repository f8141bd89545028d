"""The console script: help that teaches, clear faults, JSON for machines."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
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


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command under its words; typer brings a click of its own, so no class is named."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(typer.main.get_group(app)))


def test_the_console_script_has_its_commands():
    assert {"run", "status", "doctor", "sql", "report", "ui"} <= {path[0] for path in COMMANDS}
    assert ("release", "verify") in COMMANDS


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_says_what_the_command_does_and_what_each_option_means(path):
    """On a wide screen, so that no line is broken: the whole docstring and every option's text."""
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "1000", "TERM": "dumb"})
    assert done.exit_code == 0
    command = COMMANDS[path]
    assert command.help
    assert command.help.split("\n")[0].strip("`").split()[0] in done.output
    for parameter in command.params:
        said = getattr(parameter, "help", None)
        assert said, f"{' '.join(path)}: {parameter.name} has no help text"
        assert said.split()[0] in done.output


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
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("alignguard: ")
    assert "index" in line
    assert "alignguard run" in line
