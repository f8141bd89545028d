"""Trials in the harder world, where categories conflict."""

from collections.abc import Iterator
from dataclasses import replace

from alignguard_train.contracts.recipes import standin_expert
from alignguard_train.merge.config import Strategy
from research.study.combinations import concepts as combinations
from research.study.glyph_trials import AMOUNTS, ARMS, FULL, SAFEGUARD
from research.study.trial import Merged, Options, Trained, Trial
from research.study.world import PAIRS

SPECIFIC: Options = (("preserve_others", 0.75),)
"""Recipe of experts that preserve the other categories' pairs."""


def conflicts(seed: int) -> Iterator[Trial]:
    """Five objects with two forbidden colours each; half and all of the shipped steps."""
    objects = by_object()
    everything = tuple(key for own in objects for key in own)
    arms: dict[str, tuple[Strategy, Options]] = {
        "Co-Merge": ("co-merge", ()),
        "RegMean": ("regmean", ()),
        "average": ("average", ()),
        "sum x 0.4": ("sum", (("sum_scale", 0.4),)),
        "ties": ("ties", ()),
    }
    for steps in (FULL // 2, 2 * FULL):
        parts = tuple(Trained(concepts=own, steps=steps, seed=seed) for own in objects)
        single = Trained(concepts=everything, steps=steps * len(parts), seed=seed)
        adapters: dict[str, Trained | Merged] = {
            "one expert": parts[0],
            "All-single": single,
            "All-single, safeguard": replace(single, recipe=SAFEGUARD),
        }
        if steps < FULL:  # with more steps the usual rank removes everything
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


def by_object() -> list[tuple[str, ...]]:
    """Concepts of the harder world, by category."""
    found: dict[str, tuple[str, ...]] = {}
    for concept in combinations():
        found[concept.category] = (*found.get(concept.category, ()), concept.key)
    return list(found.values())


def later(seed: int) -> Iterator[Trial]:
    """Like the glyphs' `later`; the fifth object's forbidden colours are wanted by others."""
    *old, new = by_object()
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
            "Co-Merge": "co-merge",
            "RegMean": "regmean",
            "average": "average",
        }
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


def _short_single(seed: int) -> Trained:
    """All-single with too few steps to finish."""
    everything = tuple(key for own in by_object() for key in own)
    return Trained(concepts=everything, steps=FULL // 2 * len(by_object()), seed=seed)


def data(seed: int) -> Iterator[Trial]:
    """Like the glyphs' `data`, with too few steps for All-single to finish."""
    single = _short_single(seed)
    for amount in AMOUNTS:
        yield Trial(
            experiment="data, objects", arm="All-single", x=amount or PAIRS, seed=seed,
            scenes="score", seen=single.concepts, adapter=replace(single, amount=amount),
            measured=single.concepts, prompts=6,
        )  # fmt: skip


def filtering(seed: int) -> Iterator[Trial]:
    """Like the glyphs' `filtering`, in the harder world; steps as in `data`."""
    single = _short_single(seed)
    for arm in ARMS:
        yield Trial(
            experiment="filtering, objects", arm=arm, x=0, seed=seed, scenes="score",
            seen=single.concepts, adapter=replace(single, arm=arm), measured=single.concepts,
            prompts=6,
        )  # fmt: skip
