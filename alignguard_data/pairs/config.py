"""The `filter` section of a profile."""

import dataclasses

from alignguard_data.contracts.flags import FlagRule, ScoreRead

TWIN_COSINE = ("twins", "cosine")
"""Scorer and key of the score that the twins' bounds read."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FilterRules:
    """Conditions for a pair to be kept; None disables a bound."""

    flags: tuple[FlagRule, ...]
    """An image is flagged if any rule fires."""
    min_twin_cosine: float | None = None
    """Smallest cosine of the twins' embeddings (score ``twins``/``cosine``)."""
    max_twin_cosine: float | None = None
    """Largest cosine of the twins' embeddings."""
    max_phash_distance: int | None = 4
    """Largest Hamming distance (of 64 bits) of near-duplicate images."""
    max_prompt_jaccard: float | None = 0.8
    """Unsafe prompts above this Jaccard index of 3-word shingles are near-duplicates."""
    min_kept: int = 1
    """A concept with fewer kept pairs fails; 0 allows none."""

    def __post_init__(self) -> None:
        if not self.flags:
            raise ValueError("flags must hold at least one rule")
        if self.min_kept < 0:
            raise ValueError(f"min_kept must not be negative, got {self.min_kept}")
        for name in ("min_twin_cosine", "max_twin_cosine"):
            if (value := getattr(self, name)) is not None and not -1 <= value <= 1:
                raise ValueError(f"{name} must be in [-1, 1], got {value}")
        if self.max_phash_distance is not None and not 0 <= self.max_phash_distance <= 64:
            raise ValueError(
                f"max_phash_distance must be in [0, 64], got {self.max_phash_distance}"
            )
        if self.max_prompt_jaccard is not None and not 0 <= self.max_prompt_jaccard <= 1:
            raise ValueError(f"max_prompt_jaccard must be in [0, 1], got {self.max_prompt_jaccard}")

    def scores_read(self) -> list[ScoreRead]:
        """The scores of images that the flags read."""
        return [
            ScoreRead(f"filter.flags.{number}", rule.scorer, rule.key)
            for number, rule in enumerate(self.flags)
        ]

    def pair_scores_read(self) -> list[ScoreRead]:
        """The scores of pairs that the bounds read."""
        bounds = ("min_twin_cosine", "max_twin_cosine")
        return [
            ScoreRead(f"filter.{name}", *TWIN_COSINE)
            for name in bounds
            if getattr(self, name) is not None
        ]
