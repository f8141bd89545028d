"""What the study measures: every trial by name, in the order in which it should be run.

All trials of one seed come before those of the next, so that a study that is stopped has whole
seeds.
"""

from collections.abc import Sequence

from alignguard_data.records import Concept
from benchmarks.study import glyph_trials as glyphs
from benchmarks.study import object_trials as objects
from benchmarks.study.combinations import concepts as combinations
from benchmarks.study.trial import Trial

EXPERIMENTS = {
    "base": "the base model alone",
    "merging": "experts and their merges against All-single, at equal training steps",
    "conflicts": "categories that want the opposite of each other",
    "later": "a category that comes later",
    "later object": "an object that comes later, in the harder world",
    "concepts": "how many concepts can be removed at once",
    "data": "how many pairs a concept",
    "data, objects": "how many pairs a concept, in the harder world",
    "remedies": "remedies of the DPO failure, over beta",
    "filtering": "filtered against unfiltered pairs",
    "filtering, objects": "filtered against unfiltered pairs, in the harder world",
}


def all_trials(concepts: Sequence[Concept], seeds: int) -> list[Trial]:
    """Every trial, seed by seed."""
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
        found += objects.conflicts(seed)
        found += glyphs.later(concepts, seed)
        found += objects.later(seed)
        found += glyphs.concepts(names, seed)
        found += glyphs.remedies(concepts, seed)
        found += glyphs.data(concepts, seed)
        found += objects.data(seed)
        found += glyphs.filtering(concepts, seed)
        found += objects.filtering(seed)
    return found
