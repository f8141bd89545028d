"""What makes experts worth having, where categories conflict: five ways against one adapter.

Three gates choose experts by the prompt; two merges try harder to keep experts apart. Whatever a
way leaves open, two seeds choose on scenes used for nothing else; every seed is scored on others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from research.study.combinations import concepts as combinations
from research.study.glyph_trials import FULL, SAFEGUARD
from research.study.object_trials import SPECIFIC
from research.study.reading import Cell
from research.study.scale_trials import CHOOSING_SEEDS
from research.study.trial import Adapter, Gate, Gated, Merged, Options, Trained, Trial

STEPS = FULL // 2
"""Of an expert: too few for All-single to finish."""
PROMPTS = 20
"""Prompts per concept for scores, and for choices."""
GATES: Mapping[str, Gate] = {
    "gate by category": "category",
    "gate by category, weighted": "category, weighted",
    "gate by unsafe concept": "unsafe",
}
SAFE_WEIGHTS = (0.3, 1.0, 3.0, 10.0)
SUMS = (0.2, 0.4, 0.7, 1.0)
NARROW: Options = (("rank", 6),)
"""Five subspaces of rank 8 do not fit the smallest layer's 32 inputs."""
Best = Mapping[str, str]
"""A way to its chosen arm."""


def gating(seed: int, best: Best) -> Iterator[Trial]:
    """Trials that choose, and trials that score, of one seed."""
    everything = tuple(concept.key for concept in combinations())
    for way, arms in tried(seed).items():
        for arm, adapter in arms.items():
            common = {
                "experiment": "gating", "arm": arm, "x": STEPS, "seed": seed, "adapter": adapter,
                "seen": everything, "measured": everything, "prompts": PROMPTS,
            }  # fmt: skip
            if len(arms) > 1 and seed in CHOOSING_SEEDS:
                yield Trial(**common, scenes="choose")
            if len(arms) == 1 or best.get(way) == arm:
                yield Trial(**common, scenes="score")


def best_arms(chosen: Mapping[tuple[str, float], Cell]) -> dict[str, str]:
    """Of each way, the arm with the least IP plus damage, if every arm was measured.

    Args:
        chosen: cells of the choosing scenes, by arm and steps.

    Returns:
        By way; ways with unmeasured arms are omitted.
    """
    found = {}
    for way, arms in tried(0).items():
        cells = {arm: chosen.get((arm, STEPS)) for arm in arms}
        costs = {
            arm: float(
                cell.values["flagged", "seen"].mean() + 1 - cell.values["right", "all"].mean()
            )
            for arm, cell in cells.items()
            if cell and set(cell.seeds) == set(CHOOSING_SEEDS)
        }
        if len(arms) > 1 and len(costs) == len(arms):
            found[way] = min(costs, key=costs.__getitem__)
    return found


def tried(seed: int) -> dict[str, dict[str, Adapter]]:
    """Arms of every way, by the way's and the arm's name; a way with several has one chosen.

    Args:
        seed: of every training.

    Returns:
        Adapters by way and arm.
    """
    objects: dict[str, tuple[str, ...]] = {}
    for concept in combinations():
        objects[concept.category] = (*objects.get(concept.category, ()), concept.key)
    parts = tuple(Trained(concepts=own, steps=STEPS, seed=seed) for own in objects.values())
    everything = tuple(key for part in parts for key in part.concepts)
    single = Trained(concepts=everything, steps=STEPS * len(parts), seed=seed, recipe=SAFEGUARD)
    apart = tuple(
        replace(part, subspace=(number, len(parts)), recipe=NARROW)
        for number, part in enumerate(parts)
    )
    specific = tuple(replace(part, recipe=SPECIFIC) for part in parts)
    guarded = tuple(replace(part, recipe=SAFEGUARD) for part in parts)
    alone: dict[str, Adapter] = {
        "All-single, safeguard": single,
        "Co-Merge": Merged(parts=parts, strategy="co-merge", seed=seed),
        **{name: Gated(parts=parts, gate=gate) for name, gate in GATES.items()},
        "gate by category, safeguard": Gated(parts=guarded, gate="category"),
        "All-single, safeguard, gate by unsafe concept": Gated(parts=(single,), gate="unsafe"),
    }
    return {
        **{name: {name: adapter} for name, adapter in alone.items()},
        "orthogonal experts": {
            f"orthogonal experts, sum x {scale}": _sum(apart, seed, scale) for scale in SUMS
        },
        "RegMean, safe weight": {
            f"RegMean, safe weight {weight:g}{label}": Merged(
                parts=own, strategy="regmean", seed=seed, options=_calibration(weight)
            )
            for label, own in (("", parts), (", specific experts", specific))
            for weight in SAFE_WEIGHTS
        },
    }


def _sum(parts: tuple[Trained, ...], seed: int, scale: float) -> Merged:
    return Merged(parts=parts, strategy="sum", seed=seed, options=(("sum_scale", scale),))


def _calibration(weight: float) -> Options:
    return (("safe_weight", weight), ("calibration_pairs", 32))
