"""`alignguard harden` over real rooms, killed with SIGKILL: the next call ends as an unbroken one.

Experts of six steps, which the attacks break.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors.torch import load

from tests.conftest import command_environment, reduced_profile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
LIMIT_SECONDS = 1800
ATTACK = "reduced/robustness/harden-1/.*.partial/*.parquet"
LEDGER = "reduced/hard_negatives/*.jsonl"
EXPERT = "reduced/hardening/1/.*.partial/experts/*.safetensors"
CHECKPOINT = "reduced/hardening/1/.*.partial/*.checkpoint.safetensors"


def several(pattern: str, number: int) -> Callable[[Path], bool]:
    return lambda root: len(list(root.glob(pattern))) >= number


def added_and(pattern: str) -> Callable[[Path], bool]:
    """The prompts are in the ledger, and a room after that is at work."""
    return lambda root: any(root.glob(LEDGER)) and any(root.glob(pattern))


def trained(root: Path) -> dict[str, int]:
    """Steps that the checkpoint of each expert holds."""
    found = {}
    for path in root.glob(CHECKPOINT):
        with suppress(FileNotFoundError):  # the expert is finished
            found[path.name] = len(load(path.read_bytes())["history"])
    return found


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the attack's first cases are kept": several(ATTACK, 2),
    "more of them": several(ATTACK, 5),
    "hard negatives are drawn": added_and("reduced/images/*/.*.partial"),
    "they are released": added_and("reduced/releases/.*"),
    "an expert goes on": lambda root: max(trained(root).values(), default=0) >= 2,
    "the second expert goes on": lambda root: several(EXPERT, 1)(root) and len(trained(root)) > 1,
}
"""What shows that a call has come so far; each call is killed there, and the next one goes on."""


def alignguard(root: Path, profile: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        env=command_environment(root, profile),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def whole(root: Path, profile: Path, *arguments: str) -> str:
    process = alignguard(root, profile, *arguments)
    said, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0, said
    return said


def kill_when(root: Path, profile: Path, reached: Callable[[Path], bool]) -> None:
    before = trained(root)
    process = alignguard(root, profile, "harden")
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        while not reached(root):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            for name, steps in trained(root).items():
                assert steps >= before.get(name, 0), "it does not go on at the step"
            time.sleep(0.002)
    finally:
        process.kill()
        process.communicate()


def finished(root: Path) -> dict[str, tuple[str, int]]:
    """What is finished and when it was written: partitions, kept cases, ledgers and experts.

    A partition's first half is its content, as a round makes some rooms again with more rows.
    """
    found = {}
    for path in root.glob("reduced/*/*/manifest.json"):
        content = json.loads(path.read_text())["content_id"]
        found[path.parent.relative_to(root).as_posix()] = content, path.stat().st_mtime_ns
    for pattern in (ATTACK, LEDGER, EXPERT, "reduced/hardening/1/*/experts/*.safetensors"):
        for path in root.glob(pattern):
            found[path.name] = "", path.stat().st_mtime_ns
    return found


def made_again(before: dict[str, tuple[str, int]], after: dict[str, tuple[str, int]]) -> list[str]:
    """What has the same content and was written once more."""
    return sorted(
        name
        for name, (content, written) in before.items()
        if name in after and after[name][0] == content and after[name][1] != written
    )


def ends_alike(root: Path) -> Iterator[tuple[str, object]]:
    """Content of every partition and release; bytes of ledgers, released rows and weights."""
    for path in root.glob("reduced/*/*/manifest.json"):
        place = path.parent.relative_to(root).as_posix()
        if not place.startswith("reduced/index/"):  # DuckDB's bytes are its own affair
            yield place, json.loads(path.read_text())["content_id"]
    for pattern in (
        LEDGER,
        "reduced/releases/*/*/*.parquet",
        "reduced/hardening/1/**/*.safetensors",
    ):
        for path in root.glob(pattern):
            yield path.relative_to(root).as_posix(), path.read_bytes()


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    few = {"preset": "smoke", "cases": 6, "steps": 6}
    return reduced_profile(
        tmp_path_factory.mktemp("profile"),
        training__all_single=False,
        training__parallel=1,
        hardening={**few, "attacks": [{"name": "random_k"}, {"name": "shuffle"}]},
    )  # fmt: skip


def test_killed_at_any_moment_of_a_round_it_goes_on_and_ends_alike(tmp_path, profile):
    calm, root = tmp_path / "calm", tmp_path / "killed"
    whole(calm, profile, "run", "--until", "merge")
    shutil.copytree(calm, root, ignore=shutil.ignore_patterns(".dagster"))
    whole(calm, profile, "harden")
    expected = dict(ends_alike(calm))
    assert len([name for name in expected if name.startswith("reduced/hardening/1")]) == 4
    assert len([name for name in expected if name.startswith("reduced/hard_negatives")]) > 1
    before = finished(root)
    for moment, reached in MOMENTS.items():
        kill_when(root, profile, reached)
        now = finished(root)
        assert not made_again(before, now), moment
        assert len(now) > len(before) or now != before, moment
        before = now
    whole(root, profile, "harden")
    assert not made_again(before, finished(root))
    assert dict(ends_alike(root)) == expected
