"""Dagster's overhead: seconds per partition in a run, against calling the library directly."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from alignguard_data.prompts.room import write_prompt_pairs
from pipelines.definitions import build_definitions
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.rooms import ROOMS
from pipelines.runtime.materialize import materialize


def measure(runs: int) -> dict[str, float]:
    """Medians over ``runs``: the prompts room of every stand-in concept, both ways."""
    through_dagster = [_seconds(_with_dagster) for _ in range(runs)]
    direct = [_seconds(_directly) for _ in range(runs)]
    concepts = len(_engines(Path()).taxonomy.concepts)
    dagster, library = statistics.median(through_dagster), statistics.median(direct)
    return {
        "partitions": float(concepts),
        "seconds_a_partition_through_dagster": dagster / concepts,
        "seconds_a_partition_direct": library / concepts,
        "overhead_seconds_a_partition": (dagster - library) / concepts,
        "ratio": dagster / library,
    }


def _engines(root: Path) -> Engines:
    return Engines(load_profile("standin"), root)


def _seconds(work: Callable[[Path], Callable[[], None]]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        prepared = work(Path(folder))
        started = time.perf_counter()
        prepared()
        return time.perf_counter() - started


def _directly(folder: Path) -> Callable[[], None]:
    engines = _engines(folder)
    engines.data.prepare()

    def make() -> None:
        for concept in engines.taxonomy.concepts:
            write_prompt_pairs(engines.data, concept, engines.writer, engines.profile.writing)

    return make


def _with_dagster(folder: Path) -> Callable[[], None]:
    engines = _engines(folder / "data")
    engines.data.prepare()
    definitions = build_definitions(engines)
    home = folder / "dagster"
    home.mkdir()
    instance = dg.DagsterInstance.local_temp(str(home))
    taxonomy, prompts = ROOMS[0], ROOMS[1]
    materialize(definitions, instance, engines, taxonomy, ["all"])

    def make() -> None:
        materialize(definitions, instance, engines, prompts, prompts.partitions(engines))

    return make
