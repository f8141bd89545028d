"""Experts, Co-Merge and All-single on the stand-in's flow-matching transformer."""

import dataclasses
from collections.abc import Iterator, Sequence

from alignguard_data.contracts.records import Concept
from alignguard_data.contracts.sampling import Sampling
from research.study.glyph_trials import SAFEGUARD, train_concepts
from research.study.trial import Merged, Trained, Trial
from research.study.world import World

STEPS = (30,)
"""Steps per expert: the short training of the glyphs' merges, where they differ on the UNet."""
PROMPTS = 6


class FlowWorld(World):
    """The world of glyphs, drawn by the flow model."""

    profile = "standin_flow"
    sampling = Sampling(
        num_inference_steps=8, guidance_scale=3.0, width=32, height=32, batch_size=32
    )


def flow(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """Seven categories: the base model, All-single with and without safeguard, and two merges."""
    seen = list(train_concepts(concepts).values())
    flat = tuple(key for own in seen for key in own)
    arms: dict[tuple[str, float], Trained | Merged | None] = {("base model", 0): None}
    for steps in STEPS:
        parts = tuple(Trained(concepts=own, steps=steps, seed=seed, model="flow") for own in seen)
        single = Trained(concepts=flat, steps=steps * len(parts), seed=seed, model="flow")
        safe = dataclasses.replace(single, recipe=SAFEGUARD)
        arms["All-single", steps] = single
        arms["All-single, safeguard", steps] = safe
        arms["Co-Merge", steps] = Merged(parts=parts, strategy="co-merge", seed=seed)
        arms["average", steps] = Merged(parts=parts, strategy="average", seed=seed)
    for (name, steps), adapter in arms.items():
        if adapter is None and seed:
            continue
        yield Trial(
            experiment="flow", arm=name, x=steps, seed=seed, adapter=adapter, scenes="score",
            seen=flat, measured=tuple(concept.key for concept in concepts), prompts=PROMPTS,
            model="flow",
        )  # fmt: skip
