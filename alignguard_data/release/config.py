"""A profile's release settings: file sizes, and what counts as a duplicate."""

import dataclasses

from alignguard_data.contracts.protocols import TextEmbedder
from alignguard_data.dedup.edges import Limits, identity_of


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseConfig:
    """Sizes of files and row groups, and how close two rows may be.

    Sizes are in bytes of images. Of two rows that are too close one is dropped (see
    :mod:`alignguard_data.dedup.decide`).
    """

    max_file_bytes: int = 500_000_000
    """Size at which the next data file begins."""
    row_group_bytes: int = 100_000_000
    """Size of a row group of a data file."""
    max_phash_distance: int = 4
    """Largest Hamming distance (of 64 bits) of images that count as duplicates."""
    max_prompt_jaccard: float | None = 0.8
    """Unsafe prompts above this Jaccard index of 3-word shingles count as duplicates."""
    max_semantic_cosine: float | None = None
    """Unsafe prompts above this cosine of embeddings count as duplicates; needs an embedder."""
    licence: str = ""
    """SPDX id or URL of the licence in the card and the Croissant metadata; empty for none."""

    @property
    def limits(self) -> Limits:
        """The duplicate limits."""
        return Limits(
            max_prompt_jaccard=self.max_prompt_jaccard,
            max_phash_distance=self.max_phash_distance,
            max_semantic_cosine=self.max_semantic_cosine,
        )

    def judged_by(self, embedder: TextEmbedder | None) -> str | None:
        """Identity of the embedder, or None if no limit uses it."""
        if embedder is None or self.max_semantic_cosine is None:
            return None
        return identity_of(embedder)

    def __post_init__(self) -> None:
        if self.row_group_bytes < 1:
            raise ValueError(f"row_group_bytes must be at least 1, got {self.row_group_bytes}")
        if self.max_file_bytes < self.row_group_bytes:
            raise ValueError(
                f"max_file_bytes must be at least row_group_bytes {self.row_group_bytes}, "
                f"got {self.max_file_bytes}"
            )
        if not 0 <= self.max_phash_distance <= 64:
            raise ValueError(
                f"max_phash_distance must be in [0, 64], got {self.max_phash_distance}"
            )
        for name, least in (("max_prompt_jaccard", 0), ("max_semantic_cosine", -1)):
            if (value := getattr(self, name)) is not None and not least <= value <= 1:
                raise ValueError(f"{name} must be in [{least}, 1], got {value}")
