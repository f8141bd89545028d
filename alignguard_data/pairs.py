"""Room ``pairs``: which pairs can teach a preference, and the one reason why each other cannot.

One partition a concept. Raw scores come in, thresholds are applied here, so a threshold can
change without scoring again. Only pairs of role ``train`` take part.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from alignguard_data import manifest as manifests
from alignguard_data.errors import InputMissing
from alignguard_data.manifest import Manifest, fingerprint
from alignguard_data.neardup import ImageIndex, PromptIndex
from alignguard_data.partition import PartitionSpec, open_partition
from alignguard_data.paths import DataRoot
from alignguard_data.prompts import names_concept
from alignguard_data.records import (
    Concept,
    DroppedPair,
    PreferencePair,
    PromptPair,
    Score,
    from_table,
    to_table,
)
from alignguard_data.safety import refusal

ROOM = "pairs"

REASONS = (
    "image_missing",
    "minors",
    "unsafe_image_is_clean",
    "safe_image_is_flagged",
    "safe_prompt_is_flagged",
    "twins_too_far",
    "twins_too_close",
    "near_duplicate_prompt",
    "near_duplicate_image",
)
"""Reason slugs in the order of their tests; ``image_missing``: not rendered, or not scored."""

TWIN_COSINE = ("twins", "cosine")

Scores = Mapping[tuple[str, str], float]
"""Scorer name and key to the raw value."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlagRule:
    """An image is flagged when this score is at least this high."""

    scorer: str
    key: str
    at_least: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FilterRules:
    """What a pair must satisfy to be kept. A bound of None is not tested."""

    flags: tuple[FlagRule, ...]
    """An image is flagged when any of these rules fires."""
    min_twin_cosine: float | None = None
    """Smallest cosine of the twins' embeddings (score ``twins``/``cosine``)."""
    max_twin_cosine: float | None = None
    max_phash_distance: int | None = 4
    """Hamming distance, of 64 bits, up to which two images count as near-duplicates."""
    max_prompt_jaccard: float | None = 0.8
    """Jaccard index of 3-word shingles above which two unsafe prompts count as one."""

    def __post_init__(self) -> None:
        if not self.flags:
            raise ValueError("flags must hold at least one rule")
        for name in ("min_twin_cosine", "max_twin_cosine"):
            if (value := getattr(self, name)) is not None and not -1 <= value <= 1:
                raise ValueError(f"{name} must be in [-1, 1], got {value}")
        if self.max_phash_distance is not None and not 0 <= self.max_phash_distance <= 64:
            raise ValueError(
                f"max_phash_distance must be in [0, 64], got {self.max_phash_distance}"
            )
        if self.max_prompt_jaccard is not None and not 0 <= self.max_prompt_jaccard <= 1:
            raise ValueError(f"max_prompt_jaccard must be in [0, 1], got {self.max_prompt_jaccard}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SideEvidence:
    """One side's image and its scores."""

    image_id: str
    phash: str
    scores: Scores


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A prompt pair with what is known about it; a side that is None has no usable image."""

    pair: PromptPair
    terms: tuple[str, ...]
    unsafe: SideEvidence | None
    safe: SideEvidence | None
    pair_scores: Scores


class Drop(NamedTuple):
    """Why a pair is dropped: a slug of :data:`REASONS`, and the number or pair that decided."""

    reason: str
    detail: str


class KeptPairs:
    """The pairs kept so far, as the near-duplicate tests need them."""

    def __init__(self, rules: FilterRules) -> None:
        jaccard, distance = rules.max_prompt_jaccard, rules.max_phash_distance
        self._prompts = None if jaccard is None else PromptIndex(jaccard)
        self._images = None if distance is None else ImageIndex(distance)

    def drop(self, candidate: Candidate) -> Drop | None:
        """A near-duplicate drop, prompts before images, or None."""
        if self._prompts and (found := self._prompts.closest(candidate.pair.unsafe_prompt)):
            return Drop("near_duplicate_prompt", f"of {found[0]}, Jaccard {found[1]:.3f}")
        if self._images and candidate.unsafe and candidate.safe:
            name = self._images.near(candidate.unsafe.phash, candidate.safe.phash)
            if name is not None:
                return Drop("near_duplicate_image", f"of {name}")
        return None

    def add(self, candidate: Candidate) -> None:
        """Keep a candidate."""
        identity = candidate.pair.pair_id
        if self._prompts:
            self._prompts.add(identity, candidate.pair.unsafe_prompt)
        if self._images and candidate.unsafe and candidate.safe:
            self._images.add(identity, candidate.unsafe.phash, candidate.safe.phash)


def flagged(scores: Scores, flags: Sequence[FlagRule]) -> bool:
    """Whether any rule fires; KeyError if a rule's score is not there."""
    return any(scores[rule.scorer, rule.key] >= rule.at_least for rule in flags)


def drop_reason(candidate: Candidate, rules: FilterRules, kept: KeptPairs) -> Drop | None:
    """Why a pair cannot teach a preference, or None if it can.

    The tests run in the order of :data:`REASONS`; ``kept`` is read, not changed.
    """
    unsafe, safe, pair = candidate.unsafe, candidate.safe, candidate.pair
    if unsafe is None or safe is None:
        absent = [s for s, side in (("unsafe", unsafe), ("safe", safe)) if side is None]
        return Drop("image_missing", " and ".join(absent))
    if refusal(pair.unsafe_prompt) or refusal(pair.safe_prompt):
        return Drop("minors", "")
    if not flagged(unsafe.scores, rules.flags):
        return Drop("unsafe_image_is_clean", _shown(unsafe.scores, rules.flags))
    if flagged(safe.scores, rules.flags):
        return Drop("safe_image_is_flagged", _shown(safe.scores, rules.flags))
    if names_concept(pair.safe_prompt, candidate.terms):
        return Drop("safe_prompt_is_flagged", "")
    return _twins_drop(candidate.pair_scores, rules) or kept.drop(candidate)


def _twins_drop(scores: Scores, rules: FilterRules) -> Drop | None:
    low, high = rules.min_twin_cosine, rules.max_twin_cosine
    if low is not None and (cosine := scores[TWIN_COSINE]) < low:
        return Drop("twins_too_far", f"cosine {cosine:.3f} under {low}")
    if high is not None and (cosine := scores[TWIN_COSINE]) > high:
        return Drop("twins_too_close", f"cosine {cosine:.3f} over {high}")
    return None


def _shown(scores: Scores, flags: Sequence[FlagRule]) -> str:
    return ", ".join(f"{r.scorer}/{r.key} {scores[r.scorer, r.key]:.3f}" for r in flags)


def spec(data: DataRoot, concept: Concept, rules: FilterRules) -> PartitionSpec:
    """What the concept's kept and dropped pairs should be made of.

    Raises:
        InputMissing: the concept's prompts, images or scores are not there yet.
    """
    inputs = {
        room: manifests.require(data.partition(room, concept.key)).content_id
        for room in ("prompts", "images", "scores")
    }
    return PartitionSpec(
        folder=data.partition(ROOM, concept.key),
        room=ROOM,
        key=concept.key,
        config=dataclasses.asdict(rules),
        inputs={"concept": fingerprint(dataclasses.asdict(concept), {}), **inputs},
    )


def filter_pairs(data: DataRoot, concept: Concept, rules: FilterRules) -> Manifest:
    """Sort one concept's pairs into tables ``kept`` (PreferencePair) and ``dropped`` (DroppedPair).

    Pairs are taken in the order of their ids, so the result depends on no other order; of two
    near-duplicates the smaller id stays. Kept and dropped pairs sum to ``counts["pairs"]``.

    Raises:
        InputMissing: an input is not there yet, or holds no score that a rule asks for.
    """
    with open_partition(spec(data, concept, rules)) as work:
        if work.done:
            return work.done
        candidates = read_candidates(data, concept, rules)
        kept: list[PreferencePair] = []
        dropped: list[DroppedPair] = []
        near = KeptPairs(rules)
        for candidate in candidates:
            drop = drop_reason(candidate, rules, near)
            if drop:
                dropped.append(_dropped(candidate.pair, drop))
            else:
                near.add(candidate)
                kept.append(_preference(candidate))
        return work.finish(
            tables={
                "kept": to_table(PreferencePair, kept),
                "dropped": to_table(DroppedPair, dropped),
            },
            rejected=Counter(row.reason for row in dropped),
            counts={"pairs": len(candidates)},
        )


def read_candidates(data: DataRoot, concept: Concept, rules: FilterRules) -> list[Candidate]:
    """The concept's pairs of role ``train`` with their evidence, sorted by pair id."""
    key = concept.key
    prompts = manifests.read(data.partition("prompts", key), "pairs")
    pairs = [pair for pair in from_table(PromptPair, prompts) if pair.role == "train"]
    columns = ["pair_id", "side", "image_id", "phash"]
    images = manifests.read(data.partition("images", key), "images", columns=columns).to_pylist()
    scores: dict[tuple[str, str], dict[tuple[str, str], float]] = defaultdict(dict)
    for score in from_table(Score, manifests.read(data.partition("scores", key), "scores")):
        scores[score.pair_id, score.side][score.scorer, score.key] = score.value
    sides = {
        (row["pair_id"], row["side"]): SideEvidence(
            image_id=row["image_id"],
            phash=row["phash"],
            scores=scores[row["pair_id"], row["side"]],
        )
        for row in images
        if (row["pair_id"], row["side"]) in scores
    }
    _check_scores(concept, rules, sides, pairs, scores)
    return [
        Candidate(
            pair=pair,
            terms=concept.terms,
            unsafe=sides.get((pair.pair_id, "unsafe")),
            safe=sides.get((pair.pair_id, "safe")),
            pair_scores=scores.get((pair.pair_id, ""), {}),
        )
        for pair in sorted(pairs, key=lambda pair: pair.pair_id)
    ]


def _check_scores(
    concept: Concept,
    rules: FilterRules,
    sides: Mapping[tuple[str, str], SideEvidence],
    pairs: Sequence[PromptPair],
    scores: Mapping[tuple[str, str], Scores],
) -> None:
    # A rule about a score that nobody gives would silently pass, or drop, everything.
    for rule in rules.flags:
        if any((rule.scorer, rule.key) not in side.scores for side in sides.values()):
            raise InputMissing(
                f"scores {concept.key} holds no {rule.scorer}/{rule.key}, which a flag rule asks "
                "for: add that scorer to the profile or remove the rule"
            )
    if rules.min_twin_cosine is None and rules.max_twin_cosine is None:
        return
    if any(TWIN_COSINE not in scores.get((pair.pair_id, ""), {}) for pair in pairs):
        raise InputMissing(
            f"scores {concept.key} holds no {'/'.join(TWIN_COSINE)}, which a twin bound asks for: "
            "add that pair scorer to the profile or remove the bound"
        )


def _preference(candidate: Candidate) -> PreferencePair:
    pair = candidate.pair
    assert candidate.unsafe and candidate.safe, pair.pair_id
    return PreferencePair(
        pair_id=pair.pair_id,
        concept=pair.concept,
        category=pair.category,
        unsafe_prompt=pair.unsafe_prompt,
        safe_prompt=pair.safe_prompt,
        chosen_image_id=candidate.safe.image_id,
        rejected_image_id=candidate.unsafe.image_id,
    )


def _dropped(pair: PromptPair, drop: Drop) -> DroppedPair:
    return DroppedPair(
        pair_id=pair.pair_id,
        concept=pair.concept,
        category=pair.category,
        reason=drop.reason,
        detail=drop.detail,
    )
