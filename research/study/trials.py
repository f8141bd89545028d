"""The study's trials by name, in run order.

All trials of one seed precede those of the next, so a stopped study has complete seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from alignguard_data.contracts.records import Concept
from research.study import flow_trials as flows
from research.study import gate_trials as gates
from research.study import glyph_trials as glyphs
from research.study import object_trials as objects
from research.study import scale_trials as scales
from research.study.combinations import concepts as combinations
from research.study.reading import cells
from research.study.trial import Trial

EXPERIMENTS = {
    "base": "the base model without an adapter",
    "merging": "experts and their merges against All-single, at equal training steps",
    "conflicts": "categories that want the opposite of each other",
    "gating": "what makes experts worth having, where categories conflict",
    "flow": "the same question on a flow-matching transformer",
    "flow, conflicts": "categories that want the opposite of each other, on flow matching",
    "later": "a category that comes later",
    "later object": "an object that comes later, in the harder world",
    "concepts": "how many concepts can be removed at once",
    "data": "how many pairs a concept",
    "data, objects": "how many pairs a concept, in the harder world",
    "remedies": "remedies of the DPO failure, over beta",
    "costs": "a cost margin and focusing after SC-DPO, a reconstruction",
    "filtering": "filtered against unfiltered pairs",
    "filtering, objects": "filtered against unfiltered pairs, in the harder world",
}


def all_trials(
    concepts: Sequence[Concept], seeds: int, known: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Trial]:
    """Every trial, seed by seed.

    Args:
        concepts: the stand-in's.
        seeds: training seeds of every arm.
        known: lines by key. Merges and gates are scored as chosen by lines of other scenes, so
            these trials exist only after those lines.

    Returns:
        Trials in the order in which they run.
    """
    best, ways = _best(concepts, known or {}), _ways(known or {})
    names = tuple(concept.key for concept in concepts)
    coloured = tuple(concept.key for concept in combinations())
    found = [
        Trial(
            experiment="base", arm=arm, x=0, seed=0, adapter=None, scenes="score", seen=(),
            measured=measured, prompts=6,
        )
        for arm, measured in (("base", names), ("base, objects and colours", coloured))
    ]  # fmt: skip
    for seed in range(seeds):
        found += glyphs.merging(concepts, seed)
        found += scales.scaled(concepts, seed, best)
        found += objects.conflicts(seed)
        found += gates.gating(seed, ways)
        found += flows.flow(concepts, seed)
        found += flows.flow_conflicts(seed)
        found += glyphs.later(concepts, seed)
        found += objects.later(seed)
        found += glyphs.concepts(names, seed)
        found += glyphs.remedies(concepts, seed)
        found += glyphs.costs(concepts, seed)
        found += glyphs.data(concepts, seed)
        found += objects.data(seed)
        found += glyphs.filtering(concepts, seed)
        found += objects.filtering(seed)
    return found


def _best(concepts: Sequence[Concept], known: Mapping[str, Mapping[str, Any]]) -> scales.Best:
    choosing = [
        trial for seed in scales.CHOOSING_SEEDS for trial in scales.scaled(concepts, seed, {})
    ]
    return scales.best_scales(cells(known, choosing, "merging", "choose"))


def _ways(known: Mapping[str, Mapping[str, Any]]) -> gates.Best:
    choosing = [trial for seed in scales.CHOOSING_SEEDS for trial in gates.gating(seed, {})]
    return gates.best_arms(cells(known, choosing, "gating", "choose"))
