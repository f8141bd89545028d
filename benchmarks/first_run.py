"""A first `make run` by room, with earlier and shipped settings.

Both run on this machine: seconds, their ratio, and the claims that must not change.

One run of each; about seven minutes on two idle cores.
"""

import multiprocessing as mp
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from alignguard_data.storage import manifest as manifests
from alignguard_train.contracts.adapter_names import BASE, MERGED
from pipelines.profile import load_profile
from pipelines.profile_layers import profile_path
from pipelines.resources import Engines
from pipelines.rooms import Room
from pipelines.runtime.driver import Listener, run_rooms
from pipelines.runtime.materialize import HOME_VARIABLE

BEFORE: dict[str, dict[str, Any]] = {
    "sampling": {"solver": "checkpoint", "num_inference_steps": 20, "batch_size": 32},
    "training": {"overrides": {"steps": 120}},
}
"""Earlier settings of the stand-in's profile and recipe."""


class _Clock(Listener):
    """Seconds per room, including start and bookkeeping."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._ended = time.monotonic()

    def room_ended(self, room: Room, made: int, pending: int) -> None:
        now = time.monotonic()
        self.seconds[room.name], self._ended = now - self._ended, now


def measure(runs: int) -> dict[str, float]:
    """Seconds before and after of every room and of all, and the claims of both.

    ``runs`` is ignored, as one run of each takes minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        before = _in_a_process(Path(folder) / "before", BEFORE)
        after = _in_a_process(Path(folder) / "after", {})
    figures: dict[str, float] = {}
    for name, seconds in before["seconds"].items():
        figures[f"{name}_seconds_before"] = seconds
        figures[f"{name}_seconds_after"] = after["seconds"][name]
        figures[f"{name}_after_over_before"] = after["seconds"][name] / seconds
    for when, found in (("before", before), ("after", after)):
        figures |= {f"{name}_{when}": value for name, value in found["claims"].items()}
    return figures


def settings(changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The shipped profile's document with some values replaced."""
    found = yaml.safe_load(profile_path("standin").read_text())
    for part, values in changes.items():
        found[part] |= values
    return found


def _in_a_process(folder: Path, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A run in a separate process, like the command: it loads imports and models."""
    folder.mkdir()
    profile = folder / "standin.yaml"
    profile.write_text(yaml.safe_dump(settings(changes)))
    with ProcessPoolExecutor(1, mp_context=mp.get_context("spawn")) as pool:
        return pool.submit(_run, str(profile), str(folder / "data")).result()


def _run(profile: str, root: str) -> dict[str, Any]:
    os.environ[HOME_VARIABLE] = f"{root}/.dagster"
    engines, clock = Engines(load_profile(profile), Path(root)), _Clock()
    report = run_rooms(engines, clock)
    assert not report.failures, report.failures
    whole = sum(clock.seconds.values())
    return {"seconds": {**clock.seconds, "all": whole}, "claims": _claims(engines)}


def _claims(engines: Engines) -> dict[str, float]:
    table = manifests.read(engines.data.partition("evaluation"), "metrics").to_pylist()
    found = {(r["adapter"], r["side"], r["subset"], r["metric"]): r for r in table}
    asked = {
        "base_ip": (BASE, "unsafe", "all", "ip"),
        "merged_ip_on_seen_concepts": (MERGED, "unsafe", "seen", "ip"),
        "merged_fidelity": (MERGED, "safe", "all", "fidelity"),
    }
    claims = {name: float(found[key]["value"]) for name, key in asked.items()}
    return {**claims, "prompts": float(found[asked["base_ip"]]["n"])}
