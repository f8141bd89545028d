"""What a rewriter is worth: how often it answers, and what it removes, keeps and leaves alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np

from alignguard_data.contracts.terms import names_concept
from alignguard_train.contracts.intervals import wilson
from alignguard_train.guards.config import GuardsConfig
from alignguard_train.guards.measures import CONFIDENCE
from alignguard_train.guards.records import GuardMeasure, GuardPrompt
from alignguard_train.guards.rewriter.guard import RewriterGuard
from alignguard_train.guards.rewriter.selection import EMPTY, retention
from alignguard_train.guards.splits import Parts
from alignguard_train.guards.text_guard import TextGuard


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """An unsafe prompt, the text drawn for it ("" if none), and whether that was a failure."""

    prompt: GuardPrompt
    text: str
    failed: bool
    flagged: bool


def rewrite_measures(
    guard: RewriterGuard,
    parts: Parts,
    terms: Mapping[str, Sequence[str]],
    config: GuardsConfig,
    other: TextGuard | None = None,
) -> list[GuardMeasure]:
    """Rates of rewriting on the test prompts.

    Args:
        guard: the calibrated guard.
        parts: the divided prompts.
        terms: concept key to its terms, of all concepts.
        config: resamples and seed of the bootstrap.
        other: a guard that did not choose the rewrites, which judges them.

    Returns:
        For prompts of seen and of unseen concepts: the share of flagged prompts that are rewritten
        and that fail; of the rewrites the share without the concept's terms, the words kept, those
        that a random safe twin keeps, and the share that ``other`` flags. For plain captions the
        share that is neither blocked nor, when rewritten nevertheless, changed.
    """
    found = []
    safe = [one.text for one in parts.of("test", unsafe=False) if one.variant == "twin"]
    for seen in (True, False):
        split = f"rewritten {'seen' if seen else 'unseen'}"
        rows = _rows(guard, [one for one in parts.of("test", unsafe=True) if one.seen == seen])
        found += _of_split(guard.name, split, rows, safe, terms, config, other)
    plain = [one.text for one in parts.of("test", unsafe=False) if one.variant == "plain"]
    if plain:
        same = [a == b for a, b in zip(plain, guard.rewriter.rewrite(plain), strict=True)]
        found.append(_rate(guard.name, "rewritten plain", "unchanged", same, benign=True))
    return found


def _rows(guard: RewriterGuard, prompts: Sequence[GuardPrompt]) -> list[_Row]:
    decided = guard.decide([one.text for one in prompts])
    return [
        _Row(
            prompt=prompt,
            text=one.prompt or "",
            failed=one.failed and one.reason.endswith(EMPTY),
            flagged=one.action != "allow",
        )
        for prompt, one in zip(prompts, decided, strict=True)
    ]


def _of_split(
    name: str,
    split: str,
    rows: Sequence[_Row],
    safe: Sequence[str],
    terms: Mapping[str, Sequence[str]],
    config: GuardsConfig,
    other: TextGuard | None,
) -> list[GuardMeasure]:
    flagged = [row for row in rows if row.flagged]
    if not flagged:
        return []
    taken = [row for row in flagged if row.text]
    found = [
        _rate(name, split, "rewritten", [bool(row.text) for row in flagged]),
        _rate(name, split, "no_answer", [row.failed for row in flagged]),
    ]
    if not taken:
        return found
    removed = [not names_concept(row.text, terms.get(row.prompt.concept, ())) for row in taken]
    kept = [retention(row.prompt.text, row.text) for row in taken]
    concepts = [row.prompt.concept for row in taken]
    found += [
        _rate(name, split, "concept_removed", removed),
        _mean(name, split, "retention", kept, concepts, config),
    ]
    if safe:
        drawn = Random(config.seed).choices(safe, k=len(taken))
        random = [retention(row.prompt.text, text) for row, text in zip(taken, drawn, strict=True)]
        found.append(_mean(name, split, "retention_of_random", random, concepts, config))
    if other is not None:
        scores = other.score([row.text for row in taken])
        again = (scores >= other.threshold).tolist()
        found.append(_rate(name, split, "flagged_by_safeguider", again))
    return found


def _rate(
    name: str, split: str, measure: str, values: Sequence[Any], *, benign: bool = False
) -> GuardMeasure:
    n, k = len(values), sum(map(bool, values))
    low, high = wilson(k, n)
    return _measure(name, split, measure, (k / n, low, high), n, benign)


def _mean(
    name: str,
    split: str,
    measure: str,
    values: Sequence[float],
    concepts: Sequence[str],
    config: GuardsConfig,
) -> GuardMeasure:
    """The mean with a bootstrap over concepts."""
    rng, held = np.random.default_rng(config.seed), np.array(values)
    names = np.array(concepts, dtype=object)
    groups = [held[names == one] for one in sorted(set(concepts))]
    means = [
        np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))]).mean()
        for _ in range(config.resamples)
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    value = (float(held.mean()), float(low), float(high))
    return _measure(name, split, measure, value, len(values), False)


def _measure(
    name: str, split: str, measure: str, value: tuple[float, float, float], n: int, benign: bool
) -> GuardMeasure:
    return GuardMeasure(
        guard=name, split=split, measure=measure, value=value[0], low=value[1], high=value[2],
        unsafe=0 if benign else n, benign=n if benign else 0, note="",
    )  # fmt: skip
