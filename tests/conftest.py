"""A reduced stand-in for whole-graph tests: same classes and files, two small categories."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from pipelines.profile_layers import profile_path

REPOSITORY = Path(__file__).parent.parent
KEPT_CATEGORIES = 2

WHOLE_GRAPH_FILES = (
    "test_end_to_end.py",
    "test_faults.py",
    "test_real_classes.py",
    "test_stricter_rules.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take minutes go first: side by side, none of them is left for the end."""
    items.sort(key=lambda item: item.path.name not in WHOLE_GRAPH_FILES)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the caller's profile, data or Dagster home."""
    for name in ("ALIGNGUARD_PROFILE", "ALIGNGUARD_ROOT", "DAGSTER_HOME", "ALIGNGUARD_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALIGNGUARD_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))


def reduced_profile(folder: Path, **changes: object) -> Path:
    """Write the stand-in profile with two categories, few pairs and few steps; return its path."""
    profile = yaml.safe_load(profile_path("standin").read_text())
    shipped = REPOSITORY / "alignguard_data" / "standin" / "taxonomy.yaml"
    taxonomy = yaml.safe_load(shipped.read_text())
    taxonomy["categories"] = taxonomy["categories"][:KEPT_CATEGORIES]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    profile["name"] = "reduced"
    profile["taxonomy"] = str(folder / "taxonomy.yaml")
    profile["writing"]["pairs_per_concept"] = 10
    # A pair a batch: a killed run that goes on gives no image another place in its batch, which
    # could change its last bit on some CPUs.
    profile["sampling"]["batch_size"] = 2
    profile["training"]["overrides"] = {"steps": 6, "warmup_steps": 1, "batch_size": 4}
    profile["merge"] = {"calibration_pairs": 4}
    profile["evaluation"] |= {"prompts_per_concept": 2, "bootstrap_resamples": 200}
    profile["evaluation"]["prompt_sets"][0]["limit"] = 2
    few = {"population": 4, "generations": 2, "tokens": 3}
    profile["robustness"] |= {"preset": "smoke", "targets": ["merged"], "bootstrap_resamples": 100}
    profile["robustness"]["attacks"] = [{"name": "shuffle"}, {"name": "ring_a_bell", "params": few}]
    profile["reemergence"] = {
        "steps": [1, 2],
        "benign": {"rows": 4, "held_out": 2},
        "prompts_per_concept": 1,
        "bootstrap_resamples": 100,
    }
    for place, value in changes.items():
        section, _, field = place.partition("__")
        profile[section] = profile[section] | {field: value} if field else value
    path = folder / "reduced.yaml"
    path.write_text(yaml.safe_dump(profile))
    return path


@pytest.fixture
def reduced(tmp_path: Path) -> Path:
    """Path of a reduced profile in this test's own folder."""
    return reduced_profile(tmp_path / "profile")


def command_environment(root: Path, profile: Path) -> dict[str, str]:
    """Environment of an `alignguard` subprocess with its own data root and Dagster home."""
    own = {
        "ALIGNGUARD_ROOT": str(root),
        "ALIGNGUARD_PROFILE": str(profile),
        "DAGSTER_HOME": str(root / ".dagster"),
        "COLUMNS": "160",
    }
    return {**os.environ, **own}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts, or remounts, a small disk of our own with the given options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        again = "remount," if place.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{again}{options}", "none", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this user may not mount a disk: {done.stderr.strip()}")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)
