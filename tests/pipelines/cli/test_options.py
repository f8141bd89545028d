"""``--profile``, ``--root`` and ``--json`` on every command, before its name and after it."""

import itertools
import json
import os
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from pipelines.cli.app import app

EVERYWHERE = ("--profile", "--root", "--json")
WITHOUT = {("ui", "--json"): "it becomes a web server, which prints its own log"}


def commands() -> Iterator[tuple[str, set[str]]]:
    waiting = [("", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        for inner, child in getattr(command, "commands", {}).items():
            waiting.append((f"{name} {inner}".strip(), child))
        if not hasattr(command, "commands"):
            yield name, set(itertools.chain.from_iterable(p.opts for p in command.params))


COMMANDS = dict(commands())


def test_commands_are_found():
    assert {"run", "ui", "release list", "import coprov2"} <= set(COMMANDS)


@pytest.mark.parametrize("option", EVERYWHERE)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_option(name: str, option: str):
    assert (option in COMMANDS[name]) != ((name, option) in WITHOUT)


@pytest.mark.parametrize(
    "words", [["--json", "release", "list"], ["release", "list", "--json"]], ids=" ".join
)
def test_json_before_the_name_and_after_it_is_the_same(words: list[str]):
    done = CliRunner().invoke(app, words)
    assert json.loads(done.stdout) == {}


@pytest.mark.parametrize("after", [False, True])
def test_a_profile_and_a_root_before_the_name_and_after_it_are_the_same(after, tmp_path):
    chosen, command = ["--profile", "smol", "--root", str(tmp_path / "here")], ["release", "show"]
    done = CliRunner().invoke(app, [*command, *chosen] if after else [*chosen, *command])
    assert str(tmp_path / "here" / "smol") in str(done.exception)


def test_what_is_after_the_name_wins(tmp_path):
    command = ["--root", str(tmp_path / "one"), "release", "list", "--root", str(tmp_path / "two")]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert os.environ["ALIGNGUARD_ROOT"] == str(tmp_path / "two")
