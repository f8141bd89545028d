"""Hardening's lines and page: arms that resume, differences that are paired, a control without
hard negatives.
"""

import dataclasses
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from research.hardening import __main__ as command
from research.hardening import control, page
from research.hardening.measure import HARDENING, key_of
from research.study import results


def line(seed: int, arm: str, flagged: dict[str, str], **more: Any) -> dict[str, Any]:
    """Adapter to the verdicts of four cases, which are the evaluation's flags too."""
    case = {
        name: {"first": bits, "any": bits, "coherent": "4444"} for name, bits in flagged.items()
    }
    own = {
        name: {"flagged": bits, "right": "1101", "benign": "11"} for name, bits in flagged.items()
    }
    given = {
        "key": key_of(seed, arm), "seed": seed, "used": ["zoo"], "held_out": ["mma"], "rounds": [],
        "attacks": {"no_attack": case, "zoo": case, "mma": case}, "evaluation": own,
    }  # fmt: skip
    return {**given, **more}


HARDENED = {"base": "1111", "merged": "1110", "hardened 1": "0001"}
LINES = [
    line(0, HARDENING, HARDENED, rounds=[{"round": 1, "attacked": 9, "hard_negatives": 2}]),
    line(1, HARDENING, HARDENED),
    line(0, "control", {"control 1": "1011"}),
]
KNOWN = {one["key"]: one for one in LINES}


DRAW = page.draw


def drawn(tmp_path: Path, known: dict[str, Any] = KNOWN) -> str:
    DRAW(known, tmp_path)
    return (tmp_path / "hardening.md").read_text()


def test_arms_stand_side_by_side_with_their_number_of_seeds(tmp_path):
    text = drawn(tmp_path)
    heads = "base (2 seeds) | weak merge (2 seeds) | control 1 (1 seed) | hardened 1 (2 seeds)"
    assert f"| share of | {heads} |" in text
    row = next(one for one in text.splitlines() if one.startswith("| zoo, used"))
    assert [cell.split(" %")[0] for cell in row.split(" | ")[1:]] == [
        "100.0",
        "75.0",
        "75.0",
        "25.0",
    ]
    assert "mma" not in row
    assert "MMA-Diffusion, smaller search, held out" in text


def test_the_difference_is_paired_over_seeds_that_both_arms_have(tmp_path):
    rows = [one for one in drawn(tmp_path).splitlines() if one.startswith("| zoo, used | -")]
    assert len(rows) == 1
    assert rows[0].split(" | ")[1].startswith("-50.0 [")
    assert rows[0].endswith("| 0.33 |")


def test_a_seed_without_its_control_is_said_not_to_be_compared(tmp_path):
    text = drawn(tmp_path, {LINES[1]["key"]: LINES[1]})
    assert "| IP | not measured |  |" in text


def test_what_the_base_model_gets_wrong_is_not_refused(tmp_path):
    worse = line(0, HARDENING, HARDENED)
    worse["evaluation"]["hardened 1"]["right"] = "0111"  # the third is wrong in the base's image
    row = next(
        one
        for one in drawn(tmp_path, {worse["key"]: worse}).splitlines()
        if one.startswith("| over-refusal, safe twins | 0.0")
    )
    assert row.split(" | ")[3].startswith("33.3 %")


def test_the_page_in_the_docs_is_what_the_lines_say(tmp_path):
    assert (
        drawn(tmp_path, results.read(command.RESULTS)) == (page.DOCS / "hardening.md").read_text()
    )


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Runs the command over arms that a test answers for."""
    asked: list[tuple[str, int]] = []

    def hardening(root: Path, dataset: Path | None, seed: int) -> dict[str, Any]:
        asked.append((HARDENING, seed))
        return line(seed, HARDENING, HARDENED)

    def plain(root: Path, seed: int) -> dict[str, Any]:
        asked.append(("control", seed))
        return line(seed, "control", {"control 1": "1011"})

    monkeypatch.setattr(command, "measure", hardening)

    def peer(root: Path, seed: int) -> dict[str, Any]:
        asked.append((command.PEER_ARM, seed))
        return line(seed, command.PEER_ARM, {command.PEER_ARM: "1111"})

    monkeypatch.setattr(command, "measure_control", plain)
    monkeypatch.setattr(command, "measure_peer", peer)
    monkeypatch.setattr(command.page, "draw", lambda known: None)
    file = tmp_path / "lines.jsonl"
    arguments = ["x", "--root", str(tmp_path), "--lines", str(file), "--seeds", "0", "1"]
    arguments += ["--arms", HARDENING, "control"]
    monkeypatch.setattr(sys, "argv", arguments)
    return file, asked


def test_a_seed_with_a_line_of_hardening_gets_its_control_only(measured):
    file, asked = measured
    shutil.copy(command.RESULTS, file)  # the kept lines' keys
    kept = {key for key in results.read(file) if ", control" not in key}
    file.write_text(
        "".join(one + "\n" for one in file.read_text().splitlines() if ", control" not in one)
    )
    command.main()
    assert key_of(0) in kept
    assert asked == [("control", 0), ("control", 1)]
    assert results.read(file).keys() >= {key_of(0, "control"), key_of(1, "control")}


def test_a_seed_is_whole_before_the_next_begins(measured):
    _, asked = measured
    command.main()
    command.main()
    assert asked == [(HARDENING, 0), ("control", 0), (HARDENING, 1), ("control", 1)]


def test_the_peer_is_an_arm_with_a_column_of_its_own(measured, tmp_path, monkeypatch):
    file, asked = measured
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-3], "--arms", command.PEER_ARM])
    command.main()
    assert asked == [(command.PEER_ARM, 0), (command.PEER_ARM, 1)]
    assert "AdvUnlearn (text encoder) (2 seeds)" in drawn(tmp_path, KNOWN | results.read(file))


def test_the_control_trains_the_same_steps_and_seed_without_a_hard_negative(tmp_path, monkeypatch):
    jobs: list[Any] = []

    def trained(job: Any, processes: int) -> Any:
        jobs.append(job)
        return [SimpleNamespace(lora=f"{job.categories[0]} {len(jobs)}")]

    engines: Any = SimpleNamespace(data=SimpleNamespace(root=tmp_path), base=None)
    how: Any = SimpleNamespace(categories=("shapes", "lines"), seed=7, recipe=Steps(steps=99))
    monkeypatch.setattr(control, "train_job", trained)
    monkeypatch.setattr(control, "release_folder", lambda data: tmp_path)
    monkeypatch.setattr(control, "hard_rows", lambda folder: {"h1": None, "h2": None})
    monkeypatch.setattr(control, "weights_of", lambda data, key: tmp_path / f"{key} start")
    monkeypatch.setattr(control, "load_lora", lambda path: path.name)
    monkeypatch.setattr(control, "save_lora", lambda lora, path: path.write_text(lora))
    first = control._expert(engines, how, "shapes", 1, 40)
    control._expert(engines, how, "shapes", 2, 40)
    assert [(job.recipe.steps, job.seed, job.repeats) for job in jobs] == [
        (40, 8, {"h1": 0, "h2": 0}), (40, 9, {"h1": 0, "h2": 0})
    ]  # fmt: skip
    assert [job.start for job in jobs] == [tmp_path / "shapes start", first]
    kept = control._expert(engines, how, "lines", 1, 0)
    assert kept.read_text() == "lines start"
    control._expert(engines, how, "shapes", 1, 40)
    assert len(jobs) == 2  # a file that is there is taken over


@dataclasses.dataclass
class Steps:
    """A recipe's only field that counts here."""

    steps: int
