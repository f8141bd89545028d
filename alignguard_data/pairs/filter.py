"""Decides which pairs to keep: pure tests over raw scores, in a fixed order."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from alignguard_data.contracts.flags import FlagRule, Scores, flagged
from alignguard_data.contracts.records import PromptPair
from alignguard_data.contracts.terms import names_concept
from alignguard_data.dedup.near import ImageIndex, PromptIndex
from alignguard_data.pairs.config import TWIN_COSINE, FilterRules
from alignguard_data.safety.rules import refusal

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
"""Reason slugs in test order; ``image_missing``: not rendered or not scored."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SideEvidence:
    """One side's image and its scores."""

    image_id: str
    phash: str
    scores: Scores


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A prompt pair with its evidence; a side of None has no usable image."""

    pair: PromptPair
    terms: tuple[str, ...]
    unsafe: SideEvidence | None
    safe: SideEvidence | None
    pair_scores: Scores


class Drop(NamedTuple):
    """Why a pair is dropped: a slug of :data:`REASONS`, and the deciding number or pair."""

    reason: str
    detail: str


class KeptPairs:
    """The pairs kept so far, indexed for the near-duplicate tests.

    Args:
        rules: without a limit its test and index are left out.
    """

    def __init__(self, rules: FilterRules) -> None:
        jaccard, distance = rules.max_prompt_jaccard, rules.max_phash_distance
        self._prompts = None if jaccard is None else PromptIndex(jaccard)
        self._images = None if distance is None else ImageIndex(distance)

    def drop(self, candidate: Candidate) -> Drop | None:
        """Test a candidate against the kept pairs, prompts before images.

        Args:
            candidate: not yet kept.

        Returns:
            The drop with the kept pair that it repeats, or None.
        """
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


def drop_reason(candidate: Candidate, rules: FilterRules, kept: KeptPairs) -> Drop | None:
    """Why a pair is dropped; the tests run in the order of :data:`REASONS`.

    Args:
        candidate: the pair with its images' hashes and scores.
        rules: thresholds and limits.
        kept: the pairs kept so far, not modified.

    Returns:
        The first reason, or None if the pair is kept.
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
