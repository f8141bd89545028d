"""Every merge of seven experts at its best scale, chosen on some scenes and scored on others.

Sums of experts overshoot, selections and averages fall short, so at one common scale the scale
decides. Two seeds choose, on scenes used for nothing else; the chosen scale is scored with every
seed.
"""

from collections.abc import Iterator, Mapping, Sequence

from alignguard_data.contracts.records import Concept
from alignguard_train.merge.config import Strategy
from research.study.glyph_trials import FULL, SHORT, train_concepts
from research.study.reading import Cell
from research.study.trial import Merged, Trained, Trial

CHOOSING_SEEDS = (0, 1)
CHOOSING_PROMPTS = 3
"""Prompts per concept for choosing a scale."""
SUMS = (0.2, 0.4, 0.7, 1.0)
"""Scales of merges that sum the experts; the plain sum is 1, the average 1/7."""
ONE_OF_MANY = (0.7, 1.0, 1.5, 2.0, 3.0)
"""Scales of merges whose weights, rows or directions have about one expert's size."""
SCALES: Mapping[str, tuple[Strategy, tuple[float, ...]]] = {
    "Co-Merge": ("co-merge", ONE_OF_MANY),
    "RegMean": ("regmean", ONE_OF_MANY),
    "ties": ("ties", ONE_OF_MANY),
    "random": ("random", ONE_OF_MANY),
    "svd": ("svd", SUMS),
    "magnitude": ("magnitude", SUMS),
    "dare": ("dare", SUMS),
}
Best = Mapping[tuple[str, float], float]
"""Merge and steps per expert to the chosen scale."""


def scaled(concepts: Sequence[Concept], seed: int, best: Best) -> Iterator[Trial]:
    """Trials that choose scales, and trials that score chosen ones."""
    seen = list(train_concepts(concepts).values())
    for steps in (SHORT, FULL):
        parts = tuple(Trained(concepts=own, steps=steps, seed=seed) for own in seen)
        for name, (strategy, scales) in SCALES.items():
            for scale in scales:
                common = {
                    "experiment": "merging",
                    "arm": arm(name, scale),
                    "x": steps,
                    "seed": seed,
                    "adapter": _merged(parts, strategy, seed, scale),
                    "seen": tuple(key for own in seen for key in own),
                    "measured": tuple(concept.key for concept in concepts),
                }
                if seed in CHOOSING_SEEDS:
                    yield Trial(**common, scenes="choose", prompts=CHOOSING_PROMPTS)
                if best.get((name, steps)) == scale:
                    yield Trial(**common, scenes="score", prompts=6)


def _merged(parts: tuple[Trained, ...], strategy: Strategy, seed: int, scale: float) -> Merged:
    if strategy in SCALES_IN_CONFIG:
        options = (("sum_scale", scale),)
        return Merged(parts=parts, strategy=strategy, seed=seed, options=options)
    return Merged(parts=parts, strategy=strategy, seed=seed, scale=scale)


SCALES_IN_CONFIG: frozenset[Strategy] = frozenset(("svd", "magnitude", "dare"))
"""Strategies configured by ``sum_scale``."""


def arm(name: str, scale: float) -> str:
    """A scaled merge's name in lines and tables."""
    return f"{name} x {scale}, 7 experts"


def best_scales(chosen: Mapping[tuple[str, float], Cell]) -> dict[tuple[str, float], float]:
    """The scale with the least IP plus damage, if every scale was measured.

    Args:
        chosen: cells of the choosing scenes, by arm and steps.

    Returns:
        By merge and steps; merges with unmeasured scales are omitted.
    """
    found = {}
    for steps in (SHORT, FULL):
        for name, (_, scales) in SCALES.items():
            own = {scale: chosen.get((arm(name, scale), steps)) for scale in scales}
            costs = {
                scale: _cost(cell)
                for scale, cell in own.items()
                if cell and set(cell.seeds) == set(CHOOSING_SEEDS)
            }
            if len(costs) == len(scales):
                found[name, steps] = min(costs, key=costs.__getitem__)
    return found


def _cost(cell: Cell) -> float:
    return float(cell.values["flagged", "seen"].mean() + 1 - cell.values["right", "all"].mean())
