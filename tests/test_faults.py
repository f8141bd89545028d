"""Faults injected into whole runs of the command.

Full and read-only disks, damaged files, two runs at once, a jumping clock, a locked index. Each
shows a clear line and loses nothing.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import command_environment, reduced_profile
from tests.test_end_to_end import ALIGNGUARD, content_ids

RUN = ("run", "--until", "release")
LIMIT_SECONDS = 900


def alignguard(
    root: Path, profile: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ALIGNGUARD, *arguments],
        env=command_environment(root, profile) | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed command said, which must not be a traceback."""
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    return " ".join(said.split())


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reduced_profile(tmp_path_factory.mktemp("profile"), writing__pairs_per_concept=6)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, profile: Path) -> Path:
    """Data root of an undisturbed run; tests that damage it mend it again."""
    root = tmp_path_factory.mktemp("calm") / "data"
    done = alignguard(root, profile, *RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


RELEASED = [
    "data/train-*.parquet",
    "data/test-*.parquet",
    "prompts/evaluation.parquet",
    "README.md",
    "croissant.json",
    "manifest.json",
]


@pytest.mark.parametrize("pattern", RELEASED)
@pytest.mark.parametrize("harm", [flipped, Path.unlink])
def test_status_verify_names_a_damaged_file_of_the_release(calm, profile, pattern, harm):
    """Its folder lies outside the room's partition, and a flipped byte leaves its size."""
    (path,) = calm.glob(f"reduced/releases/*/{pattern}")
    sound = path.read_bytes()
    harm(path)
    try:
        done = alignguard(calm, profile, "status", "--verify", "--json")
    finally:
        path.write_bytes(sound)
    message = json.loads(done.stdout)
    assert done.returncode == 1
    assert message["rooms"]["release"] == {"all": "corrupt"}
    assert list(message["faults"]) == ["release all"]
    assert str(path) in message["faults"]["release all"]


def test_status_verify_names_every_damaged_file_and_is_content_with_whole_ones(calm, profile):
    folders = ("releases/*/data", "prompts/*/*", "pairs/*/*")
    paths = [sorted(calm.glob(f"reduced/{folder}/*.parquet"))[0] for folder in folders]
    sound = [path.read_bytes() for path in paths]
    for path in paths:
        flipped(path)
    try:
        done = alignguard(calm, profile, "status", "--verify")
    finally:
        for path, content in zip(paths, sound, strict=True):
            path.write_bytes(content)
    assert done.returncode == 1
    said = done.stdout.replace("\n", "").replace(" ", "")
    assert all(str(path) in said for path in paths)
    whole = alignguard(calm, profile, "status", "--verify", "--json")
    assert whole.returncode == 0
    assert json.loads(whole.stdout)["faults"] == {}


def start(root: Path, profile: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ALIGNGUARD, *RUN],
        env=command_environment(root, profile) | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not reached():
        assert process.poll() is None, "the run ended before the fault could be injected"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    said, _ = process.communicate(timeout=LIMIT_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, said, "")


def test_a_disk_that_fills_gives_one_line_and_the_next_run_goes_on(disk, calm, profile, tmp_path):
    home = str(tmp_path / "dagster")
    place = disk("size=300k")
    said = one_line(alignguard(place / "data", profile, *RUN, DAGSTER_HOME=home))
    assert "No space left on device" in said
    assert not list(place.rglob("*.tmp"))
    disk("size=64m")
    assert alignguard(place / "data", profile, *RUN, DAGSTER_HOME=home).returncode == 0
    assert content_ids(place / "data") == content_ids(calm)


@pytest.mark.slow
def test_a_disk_that_fills_under_dagster_too_is_one_line(disk, calm, profile):
    root = disk("size=100m") / "data"
    process = start(root, profile)
    wait_for(process, lambda: any(root.glob("reduced/images/*/.*.partial/*.parquet")))
    ballast = root.parent / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while fill(file):
            pass
    said = one_line(ended(process))
    assert "No space left" in said or "(0 MiB free)" in said
    ballast.unlink()
    assert alignguard(root, profile, *RUN).returncode == 0
    assert content_ids(root) == content_ids(calm)


def fill(file) -> bool:
    try:
        return file.write(bytes(2**14)) > 0
    except OSError:
        return False


@pytest.mark.slow
def test_a_read_only_root_is_one_line_and_the_next_run_goes_on(disk, calm, profile, tmp_path):
    home = str(tmp_path / "dagster")
    root = disk("size=64m") / "data"
    assert alignguard(root, profile, "run", "--until", "images", DAGSTER_HOME=home).returncode == 0
    disk("ro")
    said = one_line(alignguard(root, profile, *RUN, DAGSTER_HOME=home))
    assert "Read-only file system" in said
    assert str(root) in said
    disk("rw,size=64m")
    assert alignguard(root, profile, *RUN, DAGSTER_HOME=home).returncode == 0
    assert content_ids(root) == content_ids(calm)


@pytest.mark.slow
def test_two_runs_at_once_do_not_spoil_each_other(calm, profile, tmp_path):
    root = tmp_path / "data"
    both = [start(root, profile, DAGSTER_HOME=str(tmp_path / str(i))) for i in range(2)]
    for done in map(ended, both):
        # The slower one may stop at a partition that the other one is making, and says so.
        if done.returncode:
            assert "another process is making" in one_line(done)
    assert alignguard(root, profile, *RUN).returncode == 0
    assert content_ids(root) == content_ids(calm)


def damaged(path: Path, content: bytes) -> Iterator[None]:
    sound = path.read_bytes()
    path.write_bytes(content)
    yield
    path.write_bytes(sound)


@pytest.fixture
def truncated_shard(calm: Path) -> Iterator[Path]:
    shard = min(calm.glob("reduced/scores/*/*/scores.parquet"))
    yield from ((shard) for _ in damaged(shard, shard.read_bytes()[:-100]))


@pytest.fixture
def wrong_hash(calm: Path) -> Iterator[Path]:
    """A manifest of the images room whose first file has the hash of other bytes."""
    path = min(calm.glob("reduced/images/*/manifest.json"))
    manifest = json.loads(path.read_text())
    manifest["files"][0]["sha256"] = "0" * 64
    yield from (path for _ in damaged(path, json.dumps(manifest).encode()))


@pytest.mark.slow
def test_a_truncated_shard_is_made_again(calm, profile, truncated_shard):
    before = content_ids(calm)
    assert truncated_shard.parent.parent.name in alignguard(calm, profile, "status").stdout
    done = alignguard(calm, profile, *RUN)
    assert done.returncode == 0
    assert "scores      1 made" in done.stdout
    assert content_ids(calm) == before


def test_a_manifest_with_a_wrong_hash_is_found_by_name(calm, profile, wrong_hash):
    said = one_line(alignguard(calm, profile, "status", "--verify"))
    assert str(wrong_hash.parent) in said.replace(" ", "")
    assert "0" * 64 in said.replace(" ", "")


CLOCK = """
import random, time
_true, _jumps = time.time, random.Random(0)
time.time = lambda: _true() + _jumps.choice((-86400.0, 0.0, 86400.0))
"""


@pytest.mark.slow
def test_a_clock_that_jumps_changes_no_content(calm, profile, tmp_path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(CLOCK)
    path = os.pathsep.join([str(hooks), os.environ.get("PYTHONPATH", "")])
    root = tmp_path / "data"
    done = alignguard(root, profile, *RUN, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert content_ids(root) == content_ids(calm)


def test_an_index_locked_by_another_process_is_one_line_and_can_be_rebuilt(calm, profile):
    file = next(calm.glob("reduced/index/all/*/index.duckdb"))
    command = [sys.executable, "-c", HOLD, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            said = one_line(alignguard(calm, profile, "sql", "select count(*) from concepts"))
        finally:
            holder.kill()
    assert "is locked: another process writes to it" in said
    done = alignguard(calm, profile, "sql", "--json", "select count(*) as n from concepts")
    assert done.returncode == 0, done.stderr


HOLD = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_at_random_moments_lose_nothing(calm, profile, tmp_path):
    moments = random.Random(20)
    root = tmp_path / "data"
    for _ in range(20):
        process = start(root, profile)
        try:
            process.wait(timeout=moments.uniform(1.0, 14.0))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    done = alignguard(root, profile, *RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert content_ids(root) == content_ids(calm)


@pytest.mark.slow
def test_a_taxonomy_edited_in_mid_run_counts_from_the_next_run_on(calm, tmp_path):
    """The run ends with the concepts that it began with; the next one makes the new one alone."""
    profile = reduced_profile(tmp_path / "profile", writing__pairs_per_concept=6)
    file = tmp_path / "profile" / "taxonomy.yaml"
    root = tmp_path / "data"
    process = start(root, profile)
    wait_for(process, lambda: any(root.glob("reduced/images/*/.*.partial/*.parquet")))
    taxonomy = yaml.safe_load(file.read_text())
    taxonomy["categories"][0]["concepts"].append({"slug": "ring", "name": "ring", "split": "train"})
    file.write_text(yaml.safe_dump(taxonomy))
    assert ended(process).returncode == 0
    assert content_ids(root) == content_ids(calm)
    assert alignguard(root, profile, *RUN).returncode == 0
    before, after = content_ids(calm), content_ids(root)
    data_rooms = ("prompts/", "images/", "scores/", "pairs/")
    grown = {place for place in after if place.removeprefix("reduced/").startswith(data_rooms)}
    added = {place for place in grown if place not in before}
    assert len(added) == 4
    assert all(place.endswith("angular.ring") for place in added)
    assert all(after[place] == before[place] for place in grown - added)
