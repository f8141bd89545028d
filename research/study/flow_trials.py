"""Experts, Co-Merge and All-single on the stand-in's flow-matching transformer."""

import dataclasses
from collections.abc import Iterator, Sequence

from alignguard_data.contracts.records import Concept
from alignguard_data.contracts.sampling import Sampling
from research.study.combinations import Combinations
from research.study.glyph_trials import FULL, SAFEGUARD, train_concepts
from research.study.object_trials import by_object
from research.study.trial import Merged, Trained, Trial
from research.study.world import World

STEPS = (30,)
"""Steps per expert: the short training of the glyphs' merges, where they differ on the UNet."""
PROMPTS = 6
CONFLICTS = "flow, conflicts"
CONFLICT_STEPS = (FULL // 2,)
"""Of the harder world's experts, as many as its short training of the UNet."""
PROFILE = "standin_flow"
SAMPLING = Sampling(num_inference_steps=8, guidance_scale=3.0, width=32, height=32, batch_size=32)


class FlowWorld(World):
    """The world of glyphs, drawn by the flow model."""

    profile = PROFILE
    sampling = SAMPLING


class FlowCombinations(Combinations):
    """The harder world, drawn by the flow model."""

    profile = PROFILE
    sampling = SAMPLING


def flow(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """Seven categories: the base model, All-single with and without safeguard, and two merges."""
    yield from _compared(
        "flow",
        list(train_concepts(concepts).values()),
        STEPS,
        tuple(concept.key for concept in concepts),
        seed,
    )


def flow_conflicts(seed: int) -> Iterator[Trial]:
    """Five objects whose forbidden colours conflict; the same arms."""
    objects = by_object()
    everything = tuple(key for own in objects for key in own)
    yield from _compared(CONFLICTS, objects, CONFLICT_STEPS, everything, seed)


def _compared(
    experiment: str,
    seen: Sequence[tuple[str, ...]],
    lengths: Sequence[int],
    measured: tuple[str, ...],
    seed: int,
) -> Iterator[Trial]:
    flat = tuple(key for own in seen for key in own)
    arms: dict[tuple[str, float], Trained | Merged | None] = {("base model", 0): None}
    for steps in lengths:
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
            experiment=experiment, arm=name, x=steps, seed=seed, adapter=adapter, scenes="score",
            seen=flat, measured=measured, prompts=PROMPTS, model="flow",
        )  # fmt: skip
