"""Two processes render disjoint concepts: the same content, and a killed one loses little."""

import subprocess
import sys
import time

import psutil
import pytest

from alignguard_data.storage import manifest as manifests
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.rooms import ROOMS
from pipelines.runtime.driver import Listener, run_rooms
from pipelines.runtime.work import expected_units
from tests.conftest import command_environment, reduced_profile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TWO = {"base_model__devices": ["cpu", "cpu"], "base_model__threads": 1}


class Counting(Listener):
    def __init__(self) -> None:
        self.units = {}

    def advanced(self, room, units) -> None:
        self.units[room] = self.units.get(room, 0) + units


def content(root, *rooms):
    return {
        f"{room}/{folder.name}": manifests.require(folder).content_id
        for room in rooms
        for folder in sorted((root / "reduced" / room).iterdir())
        if (folder / manifests.MANIFEST).exists()
    }


def engines_of(folder, **changes):
    path = reduced_profile(folder / "profile", **changes)
    return Engines(load_profile(str(path)), folder / "data")


def test_two_processes_make_what_one_makes_and_count_the_same(tmp_path):
    one = engines_of(tmp_path / "one")
    assert not run_rooms(one, Listener(), until="scores").failures
    two, listener = engines_of(tmp_path / "two", **TWO), Counting()
    assert not run_rooms(two, listener, until="scores").failures
    made = content(two.data.root, "images", "scores")
    assert made == content(one.data.root, "images", "scores")
    keys = [concept.key for concept in two.taxonomy.concepts]
    runs = {manifests.require(two.data.partition("images", key)).run_id for key in keys}
    assert len(runs) > 1
    images = next(room for room in ROOMS if room.name == "images")
    assert listener.units["images"] == expected_units(two, images, keys)
    assert listener.units["scores"] == listener.units["images"]


def test_a_killed_process_loses_its_batch_alone_and_a_rerun_finishes(tmp_path):
    sizes = {"writing__pairs_per_concept": 20, "sampling__batch_size": 8}
    calm = engines_of(tmp_path / "calm", **sizes)
    assert not run_rooms(calm, Listener(), until="images").failures
    path = reduced_profile(tmp_path / "two", **sizes, **TWO)
    root = tmp_path / "data"
    process = start(root, path)
    victim = wait_for_two_at_work(process, root)
    victim.kill()
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == 1, output
    assert "SIGKILL" in output
    wanted = content(calm.data.root, "images")
    kept = content(root, "images")
    assert kept, "the other process went on"
    assert kept.items() < wanted.items()
    assert list(root.glob("reduced/images/*/.*.partial/*.parquet")), "whole batches are kept"
    again = start(root, path)
    output, _ = again.communicate(timeout=1500)
    assert again.returncode == 0, output
    assert content(root, "images") == wanted


def start(root, profile):
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "run", "--until", "images"],
        env=command_environment(root, profile),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_two_at_work(process, root) -> psutil.Process:
    """One of the two processes, once two concepts have saved batches."""
    until = time.monotonic() + 1200
    while process.poll() is None and time.monotonic() < until:
        if len({p.parent for p in root.glob("reduced/images/*/.*.partial/*.parquet")}) >= 2:
            children = psutil.Process(process.pid).children()
            return next(c for c in children if "spawn_main" in " ".join(c.cmdline()))
        time.sleep(0.01)
    process.kill()
    raise AssertionError(process.communicate()[0])
