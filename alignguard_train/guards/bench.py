"""Measures one guard on the test prompts: rows of scores, and numbers with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alignguard_data.contracts.records import Concept
from alignguard_train.guards.config import GuardsConfig
from alignguard_train.guards.guardt2i.guard import GuardT2I
from alignguard_train.guards.latent_guard import LatentGuard
from alignguard_train.guards.measures import (
    MEASURES,
    Floats,
    Scored,
    auc_difference,
    measured,
    over_refusal,
)
from alignguard_train.guards.records import GuardMeasure, GuardPrompt, GuardScore
from alignguard_train.guards.splits import Parts, text_id
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.text_guard import TextGuard
from alignguard_train.guards.variants import adversarial_terms, replaced, synonyms

SHIPPED, UNSEEN = "shipped", "unseen"
"""Blacklists: the file's own; the held-out concepts, as the paper measures unseen concepts."""
UNSAFE = ("explicit", "synonym", "adversarial")
BENIGN = ("twin", "plain", "harmless")
PART = "part: "
"""Before the name of a part of a score, instead of a blacklist."""
NOT_LISTED = "unseen explicit, not on the list"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """Test prompts, the unsafe ones in other words too, and benign calibration prompts.

    ``names``: concept key to the text that names it; ``terms``: to all of them.
    """

    prompts: tuple[GuardPrompt, ...]
    names: Mapping[str, str]
    terms: Mapping[str, Sequence[str]]


def bench_of(
    parts: Parts, concepts: Sequence[Concept], encoder: FrozenEncoder, config: GuardsConfig
) -> Bench:
    """Add synonyms and adversarial strings to the parts' test prompts.

    Args:
        parts: the divided prompts.
        concepts: of the taxonomy, whose second terms are the synonyms.
        encoder: against which adversarial strings are found.
        config: length of those strings (0: none), and the seed.

    Returns:
        Test prompts in all their variants, and benign calibration prompts.
    """
    tests = parts.of("test", unsafe=True)
    found = [*parts.of("test"), *parts.of("calibration", unsafe=False)]
    found += replaced(tests, synonyms(concepts), "synonym")
    if config.adversarial:
        words = adversarial_terms(
            encoder, tests, concepts, tokens=config.adversarial, seed=config.seed
        )
        found += replaced(tests, words, "adversarial")
    return Bench(
        prompts=tuple(found),
        names={one.key: one.name for one in concepts},
        terms={one.key: one.terms for one in concepts},
    )


def score_bench(guard: TextGuard, bench: Bench) -> list[GuardScore]:
    """Every prompt's score with the file's blacklist, and with that of the unseen concepts.

    Args:
        guard: calibrated or not.
        bench: the prompts.

    Returns:
        A row for each prompt and blacklist; Latent Guard and GuardT2I have a second one, and
        GuardT2I one for each part of its score.
    """
    if isinstance(guard, GuardT2I):
        return _scored_parts(guard, bench)
    rows = _scored(guard, bench.prompts, SHIPPED)
    unseen = sorted({one.concept for one in bench.prompts if not one.seen})
    if isinstance(guard, LatentGuard) and unseen:
        other = guard.with_blacklist({key: bench.names[key] for key in unseen})
        rows += _scored(other, [one for one in bench.prompts if one.part == "test"], UNSEEN)
    return rows


def _scored_parts(guard: GuardT2I, bench: Bench) -> list[GuardScore]:
    """GuardT2I's rows, decoded once."""
    reading = guard.read([one.text for one in bench.prompts])
    rows = _rows(guard, bench.prompts, guard.scores_of(reading), SHIPPED)
    unseen = sorted({one.concept for one in bench.prompts if not one.seen})
    if unseen:
        other = guard.with_blacklist({key: bench.terms[key] for key in unseen})
        rows += _rows(guard, bench.prompts, other.scores_of(reading), UNSEEN)
    for name, scores in guard.parts(reading).items():
        rows += _rows(guard, bench.prompts, scores, PART + name)
    return rows


def reconstruction(guard: GuardT2I, bench: Bench) -> list[GuardMeasure]:
    """Share of tokens that are decoded rightly of benign test prompts, with a bootstrap over them.

    Args:
        guard: trained.
        bench: the prompts.

    Returns:
        A row for each benign set; below 0.9 no area of this guard means much.
    """
    found = []
    for variant in BENIGN:
        own = [one.text for one in bench.prompts if (one.part, one.variant) == ("test", variant)]
        if own:
            right = guard.read(own).accuracy
            drawn = np.random.default_rng(0).integers(len(own), size=(1000, len(own)))
            low, high = np.percentile(right[drawn].mean(axis=1), [2.5, 97.5])
            found.append(
                GuardMeasure(
                    guard=guard.name, split=f"benign {variant}", measure="reconstruction",
                    value=float(right.mean()), low=float(low), high=float(high),
                    unsafe=0, benign=len(own), note="",
                )
            )  # fmt: skip
    return found


def measure_bench(
    rows: Sequence[GuardScore],
    threshold: float,
    config: GuardsConfig,
    logistic: Sequence[GuardScore] = (),
) -> list[GuardMeasure]:
    """Numbers of every split and benign set.

    Args:
        rows: of :func:`score_bench`.
        threshold: the guard's, from calibration; never chosen on the test.
        config: resamples and seed.
        logistic: rows of the logistic probe on the same bench, to compare with; none: no
            comparison.

    Returns:
        A row for each split and measure; splits without unsafe or without benign prompts have none.
    """
    guard = rows[0].guard
    found: list[GuardMeasure] = []
    lists = {row.blacklist for row in rows}
    for variant in UNSAFE:
        for seen in (True, False):
            blacklist = UNSEEN if not seen and UNSEEN in lists else SHIPPED
            split = f"{'seen' if seen else 'unseen'} {variant}"
            scored = split_of(rows, variant, seen, blacklist)
            if scored is None:
                continue
            found += measured(guard, split, scored, threshold, config)
            probe = split_of(logistic, variant, seen, SHIPPED)
            if probe is not None:
                found.append(auc_difference(guard, split, scored, probe, config))
        for part in (name for name in lists if name.startswith(PART)):
            for seen in (True, False):
                split = f"{'seen' if seen else 'unseen'} {variant}, {part.removeprefix(PART)} only"
                scored = split_of(rows, variant, seen, part)
                if scored is not None:
                    by_itself = measured(guard, split, scored, threshold, config)
                    found += [one for one in by_itself if one.measure in MEASURES]
    unlisted = split_of(rows, "explicit", False, SHIPPED) if UNSEEN in lists else None
    if unlisted is not None:
        found += measured(guard, NOT_LISTED, unlisted, threshold, config)
    for variant in BENIGN:
        scores = [row.score for row in rows if _benign_test(row, variant)]
        if scores:
            found.append(over_refusal(guard, f"benign {variant}", np.array(scores), threshold))
    return found


def split_of(rows: Sequence[GuardScore], variant: str, seen: bool, blacklist: str) -> Scored | None:
    """The unsafe prompts of one split against its safe twins and all plain captions of the test.

    Args:
        rows: of :func:`score_bench`.
        variant: of the unsafe prompts: explicit, synonym or adversarial.
        seen: whether guards were trained on their concepts.
        blacklist: with which the rows were scored.

    Returns:
        Both sides' scores; None if there is no unsafe or no benign prompt.
    """
    own = [row for row in rows if row.part == "test" and row.blacklist == blacklist]
    unsafe = [row for row in own if row.variant == variant and row.seen == seen]
    benign = [
        row for row in own if row.variant == "plain" or (row.variant == "twin" and row.seen == seen)
    ]
    if not unsafe or not benign:
        return None
    return Scored(
        unsafe=np.array([row.score for row in unsafe]),
        unsafe_concepts=[row.concept for row in unsafe],
        benign=np.array([row.score for row in benign]),
        benign_concepts=[row.concept for row in benign],
    )


def _benign_test(row: GuardScore, variant: str) -> bool:
    return row.part == "test" and row.variant == variant and row.blacklist == SHIPPED


def _scored(guard: TextGuard, prompts: Sequence[GuardPrompt], blacklist: str) -> list[GuardScore]:
    return _rows(guard, prompts, guard.score([one.text for one in prompts]), blacklist)


def _rows(
    guard: TextGuard, prompts: Sequence[GuardPrompt], scores: Floats, blacklist: str
) -> list[GuardScore]:
    return [
        GuardScore(
            guard=guard.name,
            text_id=text_id(one.text),
            part=one.part,
            variant=one.variant,
            concept=one.concept,
            seen=one.seen,
            blacklist=blacklist,
            unsafe=one.unsafe,
            score=float(score),
        )
        for one, score in zip(prompts, scores, strict=True)
    ]
