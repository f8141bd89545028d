"""Hardening in a process that is killed with SIGKILL: the next call ends like an unbroken one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alignguard_data.prompts import hard_negatives
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.runtime import hardening
from pipelines.runtime.hardening import HardeningListener, harden
from tests.pipelines.runtime.test_hardening import World

KILLED = """
import sys
from pathlib import Path
from tests.pipelines.runtime.test_hardening_killed import stops_at
stops_at(Path(sys.argv[1]), sys.argv[2])
"""
STAGES = ("found", "begun", "moved", "rooms")
"""In the second round: its prompts are found, they are on their way to the ledger, they are in it,
and the rooms after them are made."""


def world(folder: Path, patch: pytest.MonkeyPatch) -> World:
    engines = Engines(load_profile("standin"), folder)
    engines.data.prepare()
    made = World(engines)
    patch.setattr(hardening, "run_rooms", made.run_rooms)
    patch.setattr(hardening, "_attacked", made.search)
    patch.setattr(hardening, "rounds", made.rounds)
    patch.setattr(hardening, "release_folder", lambda data: engines.data.releases / "v0.2.0")
    return made


def stops_at(folder: Path, stage: str) -> None:
    """Two rounds of hardening that wait at a stage of the second."""
    patch = pytest.MonkeyPatch()
    made = world(folder, patch)
    append, rooms = hard_negatives.append, made.run_rooms
    appended = 0

    def reached(here: str) -> None:
        if here == stage:
            sys.stdout.write("reached\n")
            sys.stdout.flush()
            time.sleep(600)

    def written(place, text):
        nonlocal appended
        appended += 1
        if appended > 2:
            reached("found" if appended == 3 else "begun")
        append(place, text)
        if appended == 4:
            reached("moved")

    def run(*given, **named):
        if appended == 4:
            reached("rooms")
        return rooms(*given, **named)

    patch.setattr(hard_negatives, "append", written)
    patch.setattr(hardening, "run_rooms", run)
    harden(made.engines, HardeningListener(), 2)


def ledgers(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "standin").rglob("*.jsonl")}


@pytest.mark.parametrize("stage", STAGES)
def test_kill_9_in_a_round_goes_on_and_ends_alike(stage, tmp_path, monkeypatch):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path[:1]])}
    command = [sys.executable, "-c", KILLED, str(broken), stage]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout
        assert child.stdout.readline() == "reached\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    again = world(broken, monkeypatch)
    harden(again.engines, HardeningListener(), 2)
    # What the killed call had begun to keep is not searched again.
    assert again.attacked == ([(2, "hardened 1")] if stage == "found" else [])
    harden(world(whole, monkeypatch).engines, HardeningListener(), 2)
    assert ledgers(broken) == ledgers(whole)
    assert len(ledgers(whole)["angular.zigzag.jsonl"].splitlines()) == 2
