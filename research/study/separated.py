"""How far the arms of SC-DPO's parts separate their own pairs, as rows of a table."""

from collections.abc import Iterable, Mapping
from typing import Any

from research.study.trial import Trial

MEASURES = ("logit", "solved", "left")


def rows(known: Mapping[str, Mapping[str, Any]], trials: Iterable[Trial]) -> list[list[str]]:
    """An arm a row: mean over its seeds of each measure, with the lowest and the highest seed's.

    Args:
        known: lines by key.
        trials: of the study.

    Returns:
        Arm, number of seeds and measures; none without lines that have them.
    """
    arms: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        line = known.get(trial.key, {})
        if trial.experiment == "costs" and set(MEASURES) <= set(line):
            arms.setdefault(trial.arm, []).append(line)
    return [
        [arm, str(len(lines)), *(_cell([line[name] for line in lines]) for name in MEASURES)]
        for arm, lines in arms.items()
    ]


def _cell(values: list[float]) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.2f} ({min(values):.2f}–{max(values):.2f})"
