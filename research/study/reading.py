"""Figures from lines: shares over all seeds of an arm with intervals, and paired differences.

Intervals and tests are over training seeds and prompts: a difference that another training could
reverse is not a result. The lowest and highest seed's share are shown too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from alignguard_train.contracts.intervals import (
    Bootstrap,
    Interval,
    OverTrainings,
    over_trainings,
    two_way_interval,
)
from research.study.trial import Trial

Measure = Literal["flagged", "residue", "right"]
Part = Literal["seen", "unseen", "all"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All seeds of one arm at one x: values (seeds, prompts), and each prompt's name."""

    arm: str
    x: float
    values: Mapping[tuple[Measure, Part], npt.NDArray[np.float64]]
    prompts: Mapping[Part, tuple[str, ...]]
    seeds: tuple[int, ...]
    steps: int
    cpu_seconds: tuple[float, ...]

    def share(self, measure: Measure, part: Part) -> Interval | None:
        """Interval over seeds and prompts; None without such prompts."""
        values = self.values[measure, part]
        return two_way_interval(values, Bootstrap(), kind="share") if values.size else None

    def seeds_share(self, measure: Measure, part: Part) -> tuple[float, float] | None:
        """The lowest and the highest seed's share; None with a single seed."""
        values = self.values[measure, part]
        if len(values) < 2 or not values.size:
            return None
        each = values.mean(axis=1)
        return float(each.min()), float(each.max())


def cells(
    known: Mapping[str, Mapping[str, Any]], trials: Iterable[Trial], experiment: str, scenes: str
) -> dict[tuple[str, float], Cell]:
    """Measured arms and x of one experiment, in the study's order."""
    groups: dict[tuple[str, float], list[Trial]] = {}
    for trial in trials:
        if trial.experiment == experiment and trial.scenes == scenes and trial.key in known:
            groups.setdefault((trial.arm, trial.x), []).append(trial)
    return {place: _cell(known, group) for place, group in groups.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One arm minus another, by prompt; ``test`` is None with a single seed."""

    interval: Interval
    test: OverTrainings | None


def difference(one: Cell, other: Cell, measure: Measure, part: Part = "seen") -> Difference:
    """Mean of one minus other, paired by prompt and common seed.

    Args:
        one: an arm at one x.
        other: another.
        measure: the number to compare.
        part: seen or unseen concepts.

    Returns:
        The mean difference with its interval; with one common seed there is no test.

    Raises:
        ValueError: they share no seed, or their prompts differ.
    """
    seeds = sorted(set(one.seeds) & set(other.seeds))
    if not seeds or one.prompts[part] != other.prompts[part]:
        raise ValueError(f"{one.arm} and {other.arm} cannot be compared prompt by prompt")
    first, second = (
        cell.values[measure, part][[cell.seeds.index(seed) for seed in seeds]]
        for cell in (one, other)
    )
    table = first - second
    return Difference(
        interval=two_way_interval(table, Bootstrap(), kind="difference"),
        test=over_trainings(table, "difference") if len(seeds) > 1 else None,
    )


def _cell(known: Mapping[str, Mapping[str, Any]], trials: Sequence[Trial]) -> Cell:
    first, lines = trials[0], [known[trial.key] for trial in trials]
    concepts = first.measured
    of_prompt = [key for key in concepts for _ in range(first.prompts)]
    names = [f"{key}-{i}" for key in concepts for i in range(first.prompts)]
    seen = np.array([key in first.seen for key in of_prompt])
    masks: dict[Part, npt.NDArray[np.bool_]] = {
        "seen": seen,
        "unseen": ~seen,
        "all": np.ones(len(seen), bool),
    }
    values: dict[tuple[Measure, Part], npt.NDArray[np.float64]] = {}
    measures: tuple[Measure, ...] = ("flagged", "residue", "right")
    for measure in measures:
        table = np.array([[int(bit) for bit in line[measure]] for line in lines], dtype=float)
        for part, mask in masks.items():
            values[measure, part] = table[:, mask]
    return Cell(
        arm=first.arm,
        x=first.x,
        values=values,
        prompts={part: tuple(np.array(names)[mask]) for part, mask in masks.items()},
        seeds=tuple(trial.seed for trial in trials),
        steps=lines[0]["training_steps"],
        cpu_seconds=tuple(
            line["training_cpu_seconds"] for line in lines if line["training_cpu_seconds"]
        ),
    )
