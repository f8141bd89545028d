"""Data made under older safety rules: stricter ones make it stale, and a run repairs it."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts import text
from tests.conftest import command_environment, reduced_profile
from tests.test_end_to_end import content_ids
from tests.test_faults import alignguard

pytestmark = pytest.mark.slow  # two minutes: whole runs before and after the change

RUN = ("run", "--until", "release")
OBJECTS = ("tree", "box", "kite", "ball", "boat")
"""Plain words of the stand-in's captions; one of them plays the word that is refused."""


class Stricter:
    """A data root of the ordinary command, and the command with a stricter rule."""

    def __init__(self, folder: Path) -> None:
        self.profile = reduced_profile(folder / "profile", writing__pairs_per_concept=4)
        self.root = folder / "data"
        assert alignguard(self.root, self.profile, *RUN).returncode == 0
        self.before = content_ids(self.root)
        found = Counter(word for row in self.captions("0.1.0") for word in set(row.split()))
        self.word = min((word for word in OBJECTS if found[word]), key=found.__getitem__)

    def release(self, version: str) -> Path:
        return self.root / "reduced" / "releases" / f"coprov2-reduced-v{version}"

    def rows(self, version: str) -> list[dict]:
        """Every pair and every evaluation prompt of a release."""
        names = ["pair_id", "caption", "caption_safe"]
        return [
            row
            for file in sorted(self.release(version).glob("data/*.parquet"))
            for row in pq.read_table(file, columns=names).to_pylist()
        ] + pq.read_table(
            self.release(version) / "prompts" / "evaluation.parquet",
            columns=["pair_id", "unsafe_prompt", "safe_prompt"],
        ).to_pylist()

    def captions(self, version: str) -> list[str]:
        return [row[name] for row in self.rows(version) for name in row if name != "pair_id"]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.stricter_command", self.word, *arguments],
            env=command_environment(self.root, self.profile),
            capture_output=True,
            text=True,
        )

    def states(self) -> dict[str, set[str]]:
        rooms = json.loads(self.command("status", "--json").stdout)["rooms"]
        return {room: set(keys.values()) for room, keys in rooms.items()}


@pytest.fixture(scope="module")
def stricter(tmp_path_factory) -> Stricter:
    return Stricter(tmp_path_factory.mktemp("stricter"))


@pytest.fixture(scope="module")
def stale(stricter) -> dict[str, set[str]]:
    """States of the rooms before the stricter command made anything."""
    return stricter.states()


@pytest.fixture(scope="module")
def repaired(stricter, stale) -> Stricter:
    done = stricter.command(*RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    return stricter


def test_what_the_rules_passed_is_stale_and_nothing_else_is(stale):
    assert {room for room, states in stale.items() if states == {"stale"}} == {
        "prompts",
        "pairs",
        "release",
    }
    assert {stale[room] == {"done"} for room in ("taxonomy", "images", "scores")} == {True}


def test_the_next_release_is_without_what_is_refused_now(repaired):
    refused = {
        row["pair_id"]
        for row in repaired.rows("0.1.0")
        if any(repaired.word in text.canonical(str(value)) for value in row.values())
    }
    assert refused, "else nothing is shown here"
    kept = repaired.rows("0.2.0")
    assert kept
    assert not refused & {row["pair_id"] for row in kept}
    assert not [c for c in repaired.captions("0.2.0") if repaired.word in text.canonical(c)]


def test_the_change_log_and_the_funnel_say_that_pairs_went(repaired):
    log = (repaired.release("0.2.0") / "CHANGELOG.md").read_text()
    assert "Against coprov2-reduced-v0.1.0" in log
    assert "- removed " in log
    funnel = json.loads(repaired.command(
        "sql", "--json", "select sum(rows) as n from funnel where reason = 'minors'",
    ).stdout)  # fmt: skip
    assert funnel[0]["n"] > 0


def test_the_repaired_release_is_sound_and_the_old_one_is_untouched(repaired):
    for version in ("0.1.0", "0.2.0"):
        assert repaired.command("release", "verify", f"v{version}").returncode == 0
    old = "reduced/releases/coprov2-reduced-v0.1.0"
    assert content_ids(repaired.root)[old] == repaired.before[old]


def test_only_concepts_that_lost_a_pair_are_drawn_again(repaired):
    after = content_ids(repaired.root)
    changed = {
        room: {key for key in after if f"/{room}/" in key and after[key] != repaired.before[key]}
        for room in ("prompts", "images")
    }
    assert {key.rpartition("/")[2] for key in changed["images"]} == {
        key.rpartition("/")[2] for key in changed["prompts"]
    }
    assert 0 < len(changed["images"]) < sum("/images/" in key for key in after)


def test_after_the_repair_nothing_is_left_to_do(repaired):
    done = repaired.command(*RUN)
    assert done.returncode == 0
    assert "Everything is up to date." in done.stdout
