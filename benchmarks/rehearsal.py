"""A rehearsal without a GPU: every room's bookkeeping with images of real size.

Random pixels replace the base model, random numbers replace scorers, features and VAE; the rest is
the rooms' code with a profile's sizes and counts. Each room runs in a separate process.

What grows with 70,000 images is rows (captions, hashes, ids), what is large is pixels, and the two
are measured apart: pictures of true size, enough to fill every bounded buffer, and pictures of
64 x 64 in numbers from which a row's memory can be read. A line through few pictures of true size
would multiply the allocator's noise of some MB by hundreds.

    python -m benchmarks.rehearsal run <root> <profile> <concepts> <room> [<side>]     prints JSON
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
CONCEPTS = {"sd15": 8, "sdxl": 2}
"""Concepts with pictures of true size."""
SMALL_CONCEPTS = (40, 160)
"""Concepts with pictures of ``SMALL_SIDE``: 2,900 and 11,500 images."""
SMALL_SIDE = 64
IMAGES = 70_000
MOST_BYTES = 4e9


def measure(runs: int) -> dict[str, float]:
    """Peak memory of every room at 70,000 images in GB, and cost per thousand images.

    Measured once for any ``runs``: it takes half an hour of two cores.
    """
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        few, many = (rehearse(Path(folder) / str(n), "sd15", n, SMALL_SIDE) for n in SMALL_CONCEPTS)
    for room in ROOMS:
        figures[f"{room}_kilobytes_a_row"] = bytes_a_row(few[room], many[room]) / 1e3
    for profile, concepts in CONCEPTS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = rehearse(Path(folder), profile, concepts)
        for room, own in found.items():
            place, row = f"{profile}_{room}", bytes_a_row(few[room], many[room])
            figures[f"{place}_peak_gigabytes"] = own["peak"] / 1e9
            figures[f"{place}_peak_gigabytes_at_{IMAGES}"] = at_scale(own, row) / 1e9
            for name, unit in (("read", 1e9), ("written", 1e9), ("cpu_seconds", 1.0)):
                each = 1000 * own[name] / own["images"] / unit
                figures[f"{place}_{name}_a_thousand_images"] = each
    return figures


def rehearse(
    root: Path, profile: str, concepts: int, side: int | None = None
) -> dict[str, dict[str, float]]:
    """Every room's figures over ``concepts`` concepts, with pictures of ``side`` x ``side``."""
    return {room: _in_own_process(root, profile, concepts, room, side) for room in ROOMS}


def bytes_a_row(few: Mapping[str, float], many: Mapping[str, float]) -> float:
    """Growth of the peak per image, from two numbers of small pictures; never below 0."""
    return max(0.0, (many["peak"] - few["peak"]) / (many["images"] - few["images"]))


def at_scale(own: Mapping[str, float], row: float, images: int = IMAGES) -> float:
    """Peak bytes at ``images``: that of true size, and ``row`` bytes for each further image."""
    return own["peak"] + row * (images - own["images"])


def _in_own_process(
    root: Path, profile: str, concepts: int, room: str, side: int | None
) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.rehearsal", "run", str(root), profile]
    command += [str(concepts), room, *([str(side)] if side else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _run(
    root: Path, profile: str, concepts: int, room: str, side: int | None = None
) -> dict[str, Any]:
    world = World(root, load_profile(profile), concepts, side)
    make: Callable[[], int] = getattr(world, room)
    before, started, cpu = _moved(), time.monotonic(), time.process_time()
    images = make()
    seconds, used, after = time.monotonic() - started, time.process_time() - cpu, _moved()
    return {
        "profile": profile,
        "room": room,
        "concepts": concepts,
        "images": images,
        "peak": peak_bytes(),
        "read": after["rchar"] - before["rchar"],
        "written": after["wchar"] - before["wchar"],
        "seconds": seconds,
        "cpu_seconds": used,
    }


def _moved() -> dict[str, int]:
    """Bytes read and written by this process, from Linux."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


if __name__ == "__main__":
    _, _, where, named, number, chosen, *side = sys.argv
    ran = _run(Path(where), named, int(number), chosen, int(side[0]) if side else None)
    print(json.dumps(ran))
