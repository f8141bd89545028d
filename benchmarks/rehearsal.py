"""A rehearsal without a GPU: every room's bookkeeping with images of real size.

Random pixels replace the base model, random numbers replace scorers, features and VAE; the rest is
the rooms' code with a profile's sizes and counts. Each room runs in a separate process, over few
concepts and over more; a line through both extrapolates to 70,000 images.

    python -m benchmarks.rehearsal run <root> <profile> <concepts> <room>      prints JSON
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.peak import peak_bytes
from benchmarks.rehearsal_world import World
from pipelines.profile import load_profile

ROOMS = ("prompts", "images", "scores", "pairs", "index", "release", "encodings", "evaluation")
CONCEPTS = {"sd15": (4, 8), "sdxl": (1, 2)}
"""Both sizes fill every bounded buffer (a row group, a shard of encodings); smaller sizes would
measure how buffers fill."""
IMAGES = 70_000
MOST_BYTES = 4e9


def measure(runs: int) -> dict[str, float]:
    """Peak memory in GB of every room at 70,000 images, and cost per thousand images.

    Measured once for any ``runs``: the larger size takes minutes.
    """
    figures: dict[str, float] = {}
    for profile, sizes in CONCEPTS.items():
        with tempfile.TemporaryDirectory() as folder:
            small, large = (rehearse(Path(folder) / str(n), profile, n) for n in sizes)
        for room in ROOMS:
            one, other = small[room], large[room]
            place = f"{profile}_{room}"
            figures[f"{place}_peak_gigabytes"] = other["peak"] / 1e9
            figures[f"{place}_peak_gigabytes_at_{IMAGES}"] = extrapolated(one, other) / 1e9
            for name, unit in (("read", 1e9), ("written", 1e9), ("seconds", 1.0)):
                each = (other[name] - one[name]) / (other["images"] - one["images"])
                figures[f"{place}_{name}_a_thousand_images"] = 1000 * each / unit
    return figures


def rehearse(root: Path, profile: str, concepts: int) -> dict[str, dict[str, float]]:
    """Every room's figures over ``concepts`` concepts."""
    return {room: _in_own_process(root, profile, concepts, room) for room in ROOMS}


def extrapolated(
    small: Mapping[str, float], large: Mapping[str, float], images: int = IMAGES
) -> float:
    """Bytes at ``images``: the larger size's peak plus the slope per image."""
    further = (large["peak"] - small["peak"]) / (large["images"] - small["images"])
    return large["peak"] + max(0.0, further) * (images - large["images"])


def _in_own_process(root: Path, profile: str, concepts: int, room: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.rehearsal", "run", str(root), profile]
    done = subprocess.run(
        [*command, str(concepts), room], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _run(root: Path, profile: str, concepts: int, room: str) -> dict[str, Any]:
    world = World(root, load_profile(profile), concepts)
    make: Callable[[], int] = getattr(world, room)
    before, started = _moved(), time.monotonic()
    images = make()
    seconds, after = time.monotonic() - started, _moved()
    return {
        "profile": profile,
        "room": room,
        "concepts": concepts,
        "images": images,
        "peak": peak_bytes(),
        "read": after["rchar"] - before["rchar"],
        "written": after["wchar"] - before["wchar"],
        "seconds": seconds,
    }


def _moved() -> dict[str, int]:
    """Bytes read and written by this process, from Linux."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


if __name__ == "__main__":
    print(json.dumps(_run(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])))
