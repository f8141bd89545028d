"""Release write: MB per second against copying and syncing the same files (the disk's limit)."""

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from alignguard_data.audit.rooms import AuditBounds
from alignguard_data.release.room import ReleaseConfig, build_release, latest_release
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import scratch
from alignguard_data.storage.writes import remove_tree
from alignguard_data.taxonomy.parse import Taxonomy
from benchmarks.dataset import build


def measure(runs: int) -> dict[str, float]:
    """Medians over ``runs``; the release is checked, hashed and verified as usual."""
    with tempfile.TemporaryDirectory() as folder:
        data, taxonomy = build(Path(folder), pairs_per_concept=40, size=256)
        seconds = [_release_seconds(data, taxonomy) for _ in range(runs)]
        release = latest_release(data)
        assert release is not None
        size = sum(f.stat().st_size for f in scratch(release).rglob("*") if f.is_file())
        copies = [_copy_seconds(scratch(release), Path(folder) / "copy") for _ in range(runs)]
    ours, limit = statistics.median(seconds), statistics.median(copies)
    return {
        "megabytes": size / 1e6,
        "megabytes_a_second": size / 1e6 / ours,
        "megabytes_a_second_of_a_plain_copy": size / 1e6 / limit,
        "times_a_plain_copy": ours / limit,
    }


def _release_seconds(data: DataRoot, taxonomy: Taxonomy) -> float:
    remove_tree(data.releases)
    remove_tree(data.partition("release"))
    started = time.perf_counter()
    build_release(data, taxonomy, ReleaseConfig(), AuditBounds())
    return time.perf_counter() - started


def _copy_seconds(source: Path, target: Path) -> float:
    started = time.perf_counter()
    shutil.copytree(source, target)
    for file in target.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    seconds = time.perf_counter() - started
    for file in target.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    shutil.rmtree(target)
    return seconds
