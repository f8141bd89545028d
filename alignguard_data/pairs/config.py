"""What a profile's `filter` section holds."""

import dataclasses

from alignguard_data.contracts.flags import FlagRule


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
    min_kept: int = 1
    """A concept with fewer kept pairs fails; 0 lets it come out with none."""

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
