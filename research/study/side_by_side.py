"""Runs the study's trainings and trials in several processes, each trial after its trainings."""

import multiprocessing as mp
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from alignguard_data.storage.child_process import end_with_parent
from research.study import laboratory, results
from research.study.combinations import Combinations
from research.study.combinations import concepts as combinations
from research.study.flow_trials import FlowCombinations, FlowWorld
from research.study.trial import Model, Trained, Trial, parts_of
from research.study.world import World


@cache
def world_at(folder: Path) -> World:
    """This process's world of glyphs, with models loaded once."""
    return World(folder)


@cache
def _combinations_at(folder: Path) -> World:
    return Combinations(folder / "combinations")


@cache
def _flow_at(folder: Path) -> World:
    return FlowWorld(folder / "flow")


@cache
def _flow_combinations_at(folder: Path) -> World:
    return FlowCombinations(folder / "flow-combinations")


def world_of(folder: Path, concept: str, model: Model = "unet") -> World:
    """The world that contains a concept, drawn by a base model."""
    other = any(concept == one.key for one in combinations())
    if model == "flow":
        return _flow_combinations_at(folder) if other else _flow_at(folder)
    return _combinations_at(folder) if other else world_at(folder)


def _train(folder: Path, wanted: Trained) -> None:
    laboratory.train(world_of(folder, wanted.concepts[0], wanted.model), wanted)


def _measure(folder: Path, trial: Trial) -> dict[str, Any]:
    return laboratory.carry_out(world_of(folder, trial.measured[0], trial.model), trial)


def run(root: Path, todo: list[Trial], processes: int, limit: float, console: Console) -> None:
    """Run the trials, ``processes`` at a time; start none after ``limit`` seconds."""
    started = time.monotonic()
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        ProcessPoolExecutor(
            processes, mp_context=mp.get_context("spawn"), initializer=end_with_parent
        ) as pool,
        Progress(*shown, TimeElapsedColumn(), console=console) as bar,
    ):
        task = bar.add_task("trials", total=len(todo))
        jobs, ready = _jobs(root, todo), dict[Future[Any], Trial | Trained]()
        trained: set[Trained] = set()
        waiting: list[Trial] = []
        more = True
        while more or ready:
            more = more and time.monotonic() - started < limit
            while more and len(ready) < processes:
                trial = next((t for t in waiting if trained.issuperset(parts_of(t.adapter))), None)
                if trial:
                    waiting.remove(trial)
                    ready[pool.submit(_measure, root, trial)] = trial
                    continue
                job = next(jobs, None)
                if job is None:
                    break
                if isinstance(job, Trained):
                    ready[pool.submit(_train, root, job)] = job
                else:
                    waiting.append(job)
            if not ready:
                break
            done, _ = wait(ready, return_when=FIRST_COMPLETED)
            for future in done:
                job = ready.pop(future)
                if isinstance(job, Trained):
                    future.result()
                    trained.add(job)
                else:
                    results.add(future.result())
                    bar.advance(task)


def _jobs(root: Path, todo: list[Trial]) -> Iterator[Trial | Trained]:
    """Trainings and trials, ordered so each trial follows its trainings."""
    given: set[Trained] = set()
    for trial in todo:
        for part in parts_of(trial.adapter):
            if part not in given:
                given.add(part)
                yield part
        yield trial
