"""Each console block of the README, and of the two pages that list commands, runs in its order."""

import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.alignguard_data.importing.published import pair, prompt, write_csv
from tests.conftest import reduced_profile
from tests.documented import REPOSITORY, console_blocks

pytestmark = pytest.mark.slow  # two minutes: a whole run, then a process a command

PAGES = ("README.md", "docs/reference/index.md", "docs/how-to/using-the-results.md")
BLOCKS = [block for page in PAGES for block in console_blocks(REPOSITORY / page)]
NOT_RUN = {
    "make run": "two minutes; `tests/test_end_to_end.py` runs what it runs",
    "make test": "this is it",
}
"""Commands that are not run here, with the reason; `test_docs_commands.py` knows their targets."""
ADDED = {"release push": ("--dry-run", "there is no hub: everything but the sending is done")}
"""Options that a command gets here, with the reason."""


class World:
    """A data root of two categories, and what the README's placeholders stand for in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        profile = reduced_profile(
            folder / "profile",
            writing__pairs_per_concept=4,
            training__all_single=False,
            evaluation__prompts_per_concept=1,
        )
        taxonomy = folder / "profile" / "taxonomy.yaml"
        kept = yaml.safe_load(taxonomy.read_text())
        for category in kept["categories"]:
            category["concepts"] = category["concepts"][:2]
        taxonomy.write_text(yaml.safe_dump(kept))
        self.environment = {
            "ALIGNGUARD_ROOT": str(folder / "data"),
            "ALIGNGUARD_PROFILE": str(profile),
            "DAGSTER_HOME": str(folder / "dagster"),
            "COLUMNS": "160",
        }

    def alignguard(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        assert done.stdout or done.stderr
        return done.stdout

    def query(self, sql: str) -> list[dict]:
        return json.loads(self.alignguard("sql", "--json", sql))

    def inputs(self) -> None:
        """The files that the README's commands name."""
        write_csv(self.folder / "train.csv", [*pair(1), *pair(2, "violence")])
        write_csv(self.folder / "test.csv", [prompt("a field")])
        rows = self.query("select image_id, side from images")
        with (self.folder / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("image_id", "label"), *(row.values() for row in rows)])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    made = World(tmp_path_factory.mktemp("readme"))
    made.alignguard("run", "--until", "release")
    made.inputs()
    return made


def run(world: World, line: str, meant: dict[str, str]) -> None:
    words = [meant.get(word, word) for word in shlex.split(line, comments=True)]
    assert words[0] == "alignguard"
    extra = [
        option for start, (option, _) in ADDED.items() if " ".join(words[1:]).startswith(start)
    ]
    world.alignguard(*words[1:], *extra)


def first_pair(world: World) -> str:
    return world.query("select min(pair_id) as id from release_pairs where split = 'train'")[0][
        "id"
    ]


def whole_run(world: World, monkeypatch) -> dict[str, str]:
    return {"3fa2": first_pair(world)[:8]}


def two_releases(world: World, monkeypatch) -> dict[str, str]:
    """The second one is without a pair, hence a patch."""
    taken = first_pair(world)
    world.alignguard("release", "withdraw", taken, "--reason", "a test")
    world.alignguard("run", "--until", "release")
    monkeypatch.setenv("HF_TOKEN", "none")
    return {"v0.2.0": "v0.1.1", "PAIR_ID": first_pair(world), "...": "another test"}


MEANT: dict[str, Callable[[World, pytest.MonkeyPatch], dict[str, str]]] = {
    "alignguard run": whole_run,
    "alignguard release diff v0.1.0 v0.2.0": two_releases,
}
"""First command of a block to what its placeholders mean."""


def start(block: list[str]) -> str:
    return " ".join(shlex.split(block[0], comments=True))


@pytest.mark.parametrize("block", [b for b in BLOCKS if start(b) not in NOT_RUN], ids=start)
def test_a_block_runs(block, world, monkeypatch):
    monkeypatch.chdir(world.folder)
    meant = MEANT[start(block)](world, monkeypatch)
    for line in block:
        run(world, line, meant)


def test_every_block_is_run_or_said_not_to_be():
    assert len(BLOCKS) == len(MEANT) + len(NOT_RUN)
    assert {start(block) for block in BLOCKS} == {*MEANT, *NOT_RUN}
