"""What the study measures: every trial by name, in the order in which it should be run.

A trial is an adapter (trained, or merged of trained ones), put on the base model and measured on
prompts. All trials of one seed come before those of the next, so that a study that is stopped
has whole seeds.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from alignguard_data.records import Concept
from alignguard_train.recipes import Strategy, standin_expert
from benchmarks.study.combinations import concepts as combinations
from benchmarks.study.world import PAIRS, Arm, Scenes

FORMAT = 1
"""Part of every trial's key: raise it when equal trials would give other figures."""
ARMS: tuple[Arm, ...] = ("as drawn", "noisy, filtered", "noisy")
Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One adapter trained on some concepts; ``recipe`` differs from the stand-in's in this, and
    ``start`` is an adapter that it goes on from."""

    concepts: tuple[str, ...]
    steps: int
    seed: int
    amount: int | None = None
    arm: Arm = "as drawn"
    recipe: Options = ()
    start: "Trained | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Experts merged by a strategy; ``options`` are fields of MergeConfig."""

    parts: tuple[Trained, ...]
    strategy: Strategy
    seed: int
    options: Options = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One adapter on one set of prompts; ``x`` is the number that the experiment varies."""

    experiment: str
    arm: str
    x: float
    seed: int
    adapter: Trained | Merged | None
    scenes: Scenes
    seen: tuple[str, ...]
    measured: tuple[str, ...]
    prompts: int

    @property
    def key(self) -> str:
        """Equal for equal trials on every machine."""
        return _key(self)


def adapter_key(adapter: Trained | Merged) -> str:
    """Names an adapter's file among those that this machine has made."""
    return _key(adapter)


def _key(what: "Trained | Merged | Trial") -> str:
    # A field that came later and is not used leaves the keys of older trials as they were.
    fields = asdict(
        what, dict_factory=lambda pairs: {k: v for k, v in pairs if (k, v) != ("start", None)}
    )
    text = json.dumps({"format": FORMAT, **fields}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


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
SHORT, FULL = 30, 120
"""Steps an expert in `merging`: a quarter of the shipped recipe's, and all of them."""
SCALES = (0.2, 0.4, 0.7, 1.0)
COUNTS = (1, 3, 7, 14, 21)
STEPS_A_CONCEPT = 40
AMOUNTS = (2, 5, 10, 20, None)
"""Pairs a concept; None: all that are written."""
BETAS = (1.0, 5.0, 30.0, 200.0, 2000.0)
REMEDIES: dict[str, Options] = {
    "none": (("preservation", 0.0),),
    "safeguard": (("preservation", 0.0), ("safeguard", 0.9)),
    "preservation": (),
    "both": (("safeguard", 0.9),),
    "focal": (("preservation", 0.0), ("focal", 2.0)),
    "self-attention": (("layers", "self-attention"), ("preservation_at", "last")),
}
SPECIFIC: Options = (("preserve_others", 0.75),)
"""Experts that learn to leave the other categories' pairs as they are."""
FREE: Options = (("max_winner_ratio", 1e9),)
"""Trials are to show the failure, not to be stopped by it."""


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
        found += _merging(concepts, seed)
        found += _conflicts(seed)
        found += _later(concepts, seed)
        found += _later_object(seed)
        found += _concepts(names, seed)
        found += _remedies(concepts, seed)
        found += _data(concepts, seed)
        found += _data_of_objects(seed)
        found += _filtering(concepts, seed)
        found += _filtering_of_objects(seed)
    return found


def parts_of(adapter: Trained | Merged | None) -> tuple[Trained, ...]:
    """The trained adapters that an adapter is made of, each after the one that it goes on from."""
    parts = adapter.parts if isinstance(adapter, Merged) else (adapter,) if adapter else ()
    return tuple(one for part in parts for one in (*parts_of(part.start), part))


def _train_concepts(concepts: Sequence[Concept]) -> dict[str, tuple[str, ...]]:
    """Concepts of split ``train`` by category."""
    found: dict[str, tuple[str, ...]] = {}
    for concept in concepts:
        if concept.split == "train":
            found[concept.category] = (*found.get(concept.category, ()), concept.key)
    return found


def _merging(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """Three and seven categories; short and full training; every strategy at seven.

    The sum's best scale is chosen on one set of scenes and scored on another.
    """
    by_category = _train_concepts(concepts)
    everything = tuple(concept.key for concept in concepts)
    for steps in (SHORT, FULL):
        for count in (3, 7):
            seen = [by_category[name] for name in list(by_category)[:count]]
            flat = tuple(key for own in seen for key in own)
            parts = tuple(Trained(concepts=own, steps=steps, seed=seed) for own in seen)
            single = Trained(concepts=flat, steps=steps * count, seed=seed)
            arms: dict[str, Trained | Merged] = {"All-single": single}
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
    plain: tuple[Strategy, ...] = ("random", "ties", "dare", "svd", "magnitude")
    return {**some, **{name: (name, ()) for name in plain}}


def _conflicts(seed: int) -> Iterator[Trial]:
    """Five categories of the harder world, two concepts each; steps as in `merging`, and twice."""
    objects = _objects()
    everything = tuple(key for own in objects for key in own)
    arms: dict[str, tuple[Strategy, Options]] = {
        "Co-Merge": ("co-merge", ()), "RegMean": ("regmean", ()), "average": ("average", ()),
        "sum x 0.4": ("sum", (("sum_scale", 0.4),)), "ties": ("ties", ()),
    }  # fmt: skip
    for steps in (FULL // 2, 2 * FULL):
        parts = tuple(Trained(concepts=own, steps=steps, seed=seed) for own in objects)
        single = Trained(concepts=everything, steps=steps * len(parts), seed=seed)
        adapters: dict[str, Trained | Merged] = {"one expert": parts[0], "All-single": single}
        if steps < FULL:  # with more steps the usual rank does all there is to do
            wide = replace(single, recipe=(("rank", standin_expert().rank * len(parts)),))
            adapters["All-single of the merge's rank"] = wide
        for name, (strategy, options) in arms.items():
            adapters[name] = Merged(parts=parts, strategy=strategy, seed=seed, options=options)
        specific = tuple(replace(part, recipe=SPECIFIC) for part in parts)
        adapters["one specific expert"] = specific[0]
        for name in ("Co-Merge", "RegMean", "average", "sum x 0.4", "sum x 1.0"):
            strategy, options = {**arms, "sum x 1.0": ("sum", (("sum_scale", 1.0),))}[name]
            adapters[f"{name}, specific experts"] = Merged(
                parts=specific, strategy=strategy, seed=seed, options=options
            )
        for name, adapter in adapters.items():
            seen = parts[0].concepts if name.startswith("one ") else everything
            yield Trial(
                experiment="conflicts", arm=name, x=steps, seed=seed, adapter=adapter,
                scenes="score", seen=seen, measured=everything, prompts=6,
            )  # fmt: skip


def _objects() -> list[tuple[str, ...]]:
    """Concepts of the harder world, by category."""
    found: dict[str, tuple[str, ...]] = {}
    for concept in combinations():
        found[concept.category] = (*found.get(concept.category, ()), concept.key)
    return list(found.values())


def _later(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """Six categories are removed already; the seventh comes later. What is measured as *other*
    concepts are the six: are they forgotten?"""
    by_category = _train_concepts(concepts)
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


def _later_object(seed: int) -> Iterator[Trial]:
    """As `_later`, where the fifth object's colours are what others should become."""
    *old, new = _objects()
    flat = tuple(key for own in old for key in own)
    steps = 2 * FULL
    experts = tuple(Trained(concepts=own, steps=steps, seed=seed) for own in (*old, new))
    first = Trained(concepts=flat, steps=steps * len(old), seed=seed)
    specific = replace(experts[-1], recipe=SPECIFIC)
    arms: dict[str, Trained | Merged] = {
        "All-single of four, as it was": first,
        "All-single of four, trained on": Trained(
            concepts=new, steps=steps, seed=seed, start=first
        ),
        "All-single of four, gone on with all pairs": Trained(
            concepts=(*flat, *new), steps=steps, seed=seed, start=first
        ),
        "All-single of five, all anew": Trained(
            concepts=(*flat, *new), steps=steps * len(experts), seed=seed
        ),
    }
    for label, expert in (("expert", experts[-1]), ("specific expert", specific)):
        merges: dict[str, Strategy] = {
            "Co-Merge": "co-merge", "RegMean": "regmean", "average": "average",
        }  # fmt: skip
        for name, strategy in merges.items():
            arms[f"All-single of four + {label}, {name}"] = Merged(
                parts=(first, expert), strategy=strategy, seed=seed
            )
    arms["five experts, Co-Merge"] = Merged(parts=experts, strategy="co-merge", seed=seed)
    for name, adapter in arms.items():
        yield Trial(
            experiment="later object", arm=name, x=steps, seed=seed, adapter=adapter,
            scenes="score", seen=new, measured=(*flat, *new), prompts=6,
        )  # fmt: skip


def _concepts(names: Sequence[str], seed: int) -> Iterator[Trial]:
    """One to 21 concepts, an expert each; what is not removed is measured too.

    Concepts are taken category by category in turns, so that few of them are of many categories.
    """
    order = [name for start in range(3) for name in names[start::3]]
    for count in COUNTS:
        seen = tuple(order[:count])
        parts = tuple(Trained(concepts=(key,), steps=STEPS_A_CONCEPT, seed=seed) for key in seen)
        arms: dict[str, Trained | Merged] = {
            "All-single": Trained(concepts=seen, steps=STEPS_A_CONCEPT * count, seed=seed),
            "SFT": Trained(
                concepts=seen, steps=STEPS_A_CONCEPT * count, seed=seed,
                recipe=(("method", "sft"), ("preservation", 0.0)),
            ),
            "fixed budget": Trained(concepts=seen, steps=FULL, seed=seed),
        }  # fmt: skip
        merges: dict[str, Strategy] = {
            "Co-Merge": "co-merge", "RegMean": "regmean", "average": "average",
        }  # fmt: skip
        for label, strategy in merges.items():
            arms[label] = Merged(parts=parts, strategy=strategy, seed=seed)
        for name, adapter in arms.items():
            yield Trial(
                experiment="concepts", arm=name, x=count, seed=seed, adapter=adapter,
                scenes="score", seen=seen, measured=tuple(names), prompts=4,
            )  # fmt: skip


def _remedies(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """One category's expert, half of the shipped steps; another category every seed."""
    by_category = _train_concepts(concepts)
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


def _data(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """One adapter on all train concepts, equal steps, more or fewer pairs a concept."""
    seen = tuple(key for own in _train_concepts(concepts).values() for key in own)
    for amount in AMOUNTS:
        yield Trial(
            experiment="data", arm="All-single", x=amount or PAIRS, seed=seed, scenes="score",
            seen=seen,
            adapter=Trained(concepts=seen, steps=2 * FULL, seed=seed, amount=amount),
            measured=tuple(concept.key for concept in concepts), prompts=6,
        )  # fmt: skip


def _data_of_objects(seed: int) -> Iterator[Trial]:
    """As `_data`, in the harder world; the steps are those after which All-single is not done."""
    everything = tuple(key for own in _objects() for key in own)
    single = Trained(concepts=everything, steps=FULL // 2 * len(_objects()), seed=seed)
    for amount in AMOUNTS:
        yield Trial(
            experiment="data, objects", arm="All-single", x=amount or PAIRS, seed=seed,
            scenes="score", seen=everything, adapter=replace(single, amount=amount),
            measured=everything, prompts=6,
        )  # fmt: skip


def _filtering(concepts: Sequence[Concept], seed: int) -> Iterator[Trial]:
    """As the base model draws them, where the filter has nothing to drop; and with as many clean
    "unsafe" images as a large model's, with and without filter."""
    seen = tuple(key for own in _train_concepts(concepts).values() for key in own)
    for arm in ARMS:
        yield Trial(
            experiment="filtering", arm=arm, x=0, seed=seed, scenes="score", seen=seen,
            adapter=Trained(concepts=seen, steps=2 * FULL, seed=seed, arm=arm),
            measured=tuple(concept.key for concept in concepts), prompts=6,
        )  # fmt: skip


def _filtering_of_objects(seed: int) -> Iterator[Trial]:
    """As `_filtering`, in the harder world; steps as in `_data_of_objects`."""
    everything = tuple(key for own in _objects() for key in own)
    single = Trained(concepts=everything, steps=FULL // 2 * len(_objects()), seed=seed)
    for arm in ARMS:
        yield Trial(
            experiment="filtering, objects", arm=arm, x=0, seed=seed, scenes="score",
            seen=everything, adapter=replace(single, arm=arm), measured=everything, prompts=6,
        )  # fmt: skip
