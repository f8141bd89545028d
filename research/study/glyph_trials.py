"""Trials in the stand-in's world of glyphs: merging, numbers of concepts and pairs, remedies."""

import dataclasses
from collections.abc import Iterator, Sequence

from alignguard_data.contracts.records import Concept
from alignguard_train.merge.config import Strategy
from research.study.trial import Merged, Options, Trained, Trial
from research.study.world import PAIRS, Arm, Scenes

ARMS: tuple[Arm, ...] = ("as drawn", "noisy, filtered", "noisy")
SHORT, FULL = 30, 120
"""Steps per expert in `merging`: a quarter of the shipped recipe's, and all."""
SCALES = (0.2, 0.4, 0.7, 1.0)
COUNTS = (1, 3, 7, 14, 21)
STEPS_A_CONCEPT = 40
AMOUNTS = (2, 5, 10, 20, None)
"""Pairs per concept; None: all."""
BETAS = (1.0, 5.0, 30.0, 200.0, 2000.0)
SAFEGUARD: Options = (("safeguard", 0.9),)
"""Added to the recipe's preservation."""
REMEDIES: dict[str, Options] = {
    "none": (("preservation", 0.0),),
    "safeguard": (("preservation", 0.0), ("safeguard", 0.9)),
    "preservation": (),
    "both": SAFEGUARD,
    "focusing": (("preservation", 0.0), ("focusing", 2.0)),
    "self-attention": (("layers", "self-attention"), ("preservation_at", "last")),
}
MARGIN: Options = (("cost_margin", 1.0),)
FOCUSING: Options = (("focusing", 2.0),)
SC_DPO: dict[str, Options] = {
    "DPO": (),
    "+ margin": MARGIN,
    "+ focusing": FOCUSING,
    "both": (*FOCUSING, *MARGIN),
    "both, clean pairs": (*FOCUSING, *MARGIN, ("clean_pairs", 0.25)),
}
FREE: Options = (("max_winner_ratio", 1e9),)
"""Trials should show the failure, not stop at it."""


def train_concepts(concepts: Sequence[Concept]) -> dict[str, tuple[str, ...]]:
    """Concepts of split ``train`` by category."""
    found: dict[str, tuple[str, ...]] = {}
    for concept in concepts:
        if concept.split == "train":
            found[concept.category] = (*found.get(concept.category, ()), concept.key)
    return found


def merging(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """Three and seven categories; short and full training; every strategy at seven.

    The sum's scale is chosen on one set of scenes and scored on another.
    """
    by_category = train_concepts(concepts)
    everything = tuple(concept.key for concept in concepts)
    for steps in (SHORT, FULL):
        for count in (3, 7):
            seen = [by_category[name] for name in list(by_category)[:count]]
            flat = tuple(key for own in seen for key in own)
            parts = tuple(Trained(concepts=own, steps=steps, seed=seed) for own in seen)
            single = Trained(concepts=flat, steps=steps * count, seed=seed)
            arms: dict[str, Trained | Merged] = {"All-single": single}
            if count == 7:
                arms["All-single, safeguard"] = dataclasses.replace(single, recipe=SAFEGUARD)
            for name, (strategy, options) in _strategies(count == 7).items():
                arms[name] = Merged(parts=parts, strategy=strategy, seed=seed, options=options)
            for name, adapter in arms.items():
                sets: tuple[Scenes, ...] = ("score",)
                if name.startswith("sum x"):
                    sets = ("choose", "score")
                for scenes in sets:
                    yield Trial(
                        experiment="merging", arm=f"{name}, {count} experts", x=steps, seed=seed,
                        adapter=adapter, scenes=scenes, seen=flat,
                        measured=everything if count == 7 else flat, prompts=6,
                    )  # fmt: skip


def _strategies(every: bool) -> dict[str, tuple[Strategy, Options]]:
    some: dict[str, tuple[Strategy, Options]] = {
        "Co-Merge mean row": ("co-merge", ()),
        "RegMean": ("regmean", ()),
        "average": ("average", ()),
    }
    if not every:
        return some
    for stat, unit in (("wins", "row"), ("mean", "layer"), ("wins", "layer")):
        some[f"Co-Merge {stat} {unit}"] = ("co-merge", (("stat", stat), ("unit", unit)))
    some["RegMean, no safe term"] = ("regmean", (("safe_weight", 0.0),))
    for scale in SCALES:
        some[f"sum x {scale}"] = ("sum", (("sum_scale", scale),))
    plain: tuple[Strategy, ...] = ("random", "ties")
    return {**some, **{name: (name, ()) for name in plain}}


def later(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """Six categories are removed already; the seventh comes later.

    What is measured as *other* concepts are the six: are they forgotten?
    """
    by_category = train_concepts(concepts)
    *old, new = by_category.values()
    flat = tuple(key for own in old for key in own)
    experts = tuple(Trained(concepts=own, steps=FULL, seed=seed) for own in (*old, new))
    first = Trained(concepts=flat, steps=SHORT * 7, seed=seed)
    arms: dict[str, Trained | Merged] = {
        "All-single of six, as it was": first,
        "All-single of six, trained on": Trained(concepts=new, steps=SHORT, seed=seed, start=first),
        "All-single of six + expert, Co-Merge": Merged(
            parts=(first, experts[-1]), strategy="co-merge", seed=seed
        ),
        "six experts + one, Co-Merge": Merged(parts=experts, strategy="co-merge", seed=seed),
    }
    for name, adapter in arms.items():
        yield Trial(
            experiment="later", arm=name, x=0, seed=seed, adapter=adapter, scenes="score",
            seen=new, measured=(*flat, *new), prompts=6,
        )  # fmt: skip


def concepts(names: Sequence[str], seed: int) -> Iterator[Trial]:
    """One to 21 concepts, an expert each; what is not removed is measured too.

    Concepts are taken round-robin over categories, so even a few cover many categories.
    """
    order = [name for start in range(3) for name in names[start::3]]
    for count in COUNTS:
        seen = tuple(order[:count])
        parts = tuple(Trained(concepts=(key,), steps=STEPS_A_CONCEPT, seed=seed) for key in seen)
        arms: dict[str, Trained | Merged] = {
            "All-single": Trained(concepts=seen, steps=STEPS_A_CONCEPT * count, seed=seed),
            "SFT": Trained(
                concepts=seen,
                steps=STEPS_A_CONCEPT * count,
                seed=seed,
                recipe=(("method", "sft"), ("preservation", 0.0)),
            ),
            "fixed budget": Trained(concepts=seen, steps=FULL, seed=seed),
        }
        merges: dict[str, Strategy] = {
            "Co-Merge": "co-merge",
            "RegMean": "regmean",
            "average": "average",
        }
        for label, strategy in merges.items():
            arms[label] = Merged(parts=parts, strategy=strategy, seed=seed)
        for name, adapter in arms.items():
            yield Trial(
                experiment="concepts", arm=name, x=count, seed=seed, adapter=adapter,
                scenes="score", seen=seen, measured=tuple(names), prompts=4,
            )  # fmt: skip


def remedies(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """One category's expert, half of the shipped steps; another category every seed."""
    by_category = train_concepts(concepts)
    own = by_category[list(by_category)[seed % len(by_category)]]
    arms: list[tuple[str, float, Options]] = [
        (name, beta, (("beta", beta), *remedy, *FREE))
        for beta in BETAS
        for name, remedy in REMEDIES.items()
    ]
    arms.append(("SFT", 0.0, (("method", "sft"), ("preservation", 0.0), *FREE)))
    for name, beta, recipe in arms:
        yield Trial(
            experiment="remedies", arm=name, x=beta, seed=seed, scenes="score", seen=own,
            adapter=Trained(concepts=own, steps=FULL // 2, seed=seed, recipe=recipe),
            measured=own, prompts=12,
        )  # fmt: skip


def costs(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """SC-DPO's parts, one category's expert as in `remedies` at beta 5 without a remedy."""
    by_category = train_concepts(concepts)
    own = by_category[list(by_category)[seed % len(by_category)]]
    beta, none = ("beta", 5.0), ("preservation", 0.0)
    for name, parts in SC_DPO.items():
        yield Trial(
            experiment="costs", arm=name, x=0, seed=seed, scenes="score", seen=own,
            adapter=Trained(
                concepts=own, steps=FULL // 2, seed=seed, recipe=(beta, none, *parts, *FREE)
            ),
            measured=own, prompts=12,
        )  # fmt: skip


def data(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """One adapter on all train concepts, equal steps, more or fewer pairs per concept."""
    seen = tuple(key for own in train_concepts(concepts).values() for key in own)
    for amount in AMOUNTS:
        yield Trial(
            experiment="data", arm="All-single", x=amount or PAIRS, seed=seed, scenes="score",
            seen=seen,
            adapter=Trained(concepts=seen, steps=2 * FULL, seed=seed, amount=amount),
            measured=tuple(concept.key for concept in concepts), prompts=6,
        )  # fmt: skip


def filtering(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """Pairs as drawn, where the filter drops nothing.

    And with as many clean "unsafe" images as a large model's, with and without filter.
    """
    seen = tuple(key for own in train_concepts(concepts).values() for key in own)
    for arm in ARMS:
        yield Trial(
            experiment="filtering", arm=arm, x=0, seed=seed, scenes="score", seen=seen,
            adapter=Trained(concepts=seen, steps=2 * FULL, seed=seed, arm=arm),
            measured=tuple(concept.key for concept in concepts), prompts=6,
        )  # fmt: skip
