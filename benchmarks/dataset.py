"""Synthetic data for the index and release benchmarks, made by the rooms."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alignguard_data.contracts.protocols import ImageScorer, Pixels, Progress
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.images import room as images
from alignguard_data.pairs import room as pairs
from alignguard_data.prompts.room import write_prompt_pairs
from alignguard_data.scores.room import score_concept
from alignguard_data.storage.paths import DataRoot
from alignguard_data.taxonomy.parse import Taxonomy
from alignguard_data.taxonomy.room import write_taxonomy
from pipelines.profile import load_profile
from pipelines.resources import Engines


class NoiseGenerator:
    """Renders noise: the benchmark measures files, not a model."""

    model_id, revision, images_per_call = "noise", "1", 256

    def __init__(self, size: int) -> None:
        self._size = size

    def render(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress | None = None
    ) -> Pixels:
        """Images of plain noise."""
        shape = (self._size, self._size, 3)
        return np.stack([np.random.default_rng(s).integers(0, 256, shape, np.uint8) for s in seeds])


class SideScorer:
    """Flags images by their caption, so every pair is kept."""

    name, version, keys = "side", "1", ("unsafe",)

    def __init__(self, terms: list[str]) -> None:
        self._terms = terms

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """1.0 where a prompt holds a term."""
        return [{"unsafe": float(any(t in p.split() for t in self._terms))} for p in prompts]


def build(folder: Path, *, pairs_per_concept: int, size: int) -> tuple[DataRoot, Taxonomy]:
    """Make all rooms up to pairs for every stand-in concept; images are ``size``-pixel noise."""
    engines = Engines(load_profile("standin"), folder)
    data, taxonomy = engines.data, engines.taxonomy
    data.prepare()
    write_taxonomy(data, taxonomy)
    writing = dataclasses.replace(engines.profile.writing, pairs_per_concept=pairs_per_concept)
    sampling = Sampling(num_inference_steps=1, width=size, height=size)
    scorers: list[ImageScorer] = [SideScorer([t for c in taxonomy.concepts for t in c.terms])]
    rules = pairs.FilterRules(
        flags=(pairs.FlagRule(scorer="side", key="unsafe", at_least=0.5),),
        max_phash_distance=None,
        max_prompt_jaccard=None,
    )
    for concept in taxonomy.concepts:
        write_prompt_pairs(data, concept, engines.writer, writing)
    images.render_pairs(data, [c.key for c in taxonomy.concepts], NoiseGenerator(size), sampling)
    for concept in taxonomy.concepts:
        score_concept(data, concept.key, scorers, [])
        pairs.filter_pairs(data, concept, rules)
    return data, taxonomy
