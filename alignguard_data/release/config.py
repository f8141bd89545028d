"""What a profile chooses about a release: sizes of its files, and what counts as a duplicate."""

import dataclasses

from alignguard_data.contracts.protocols import TextEmbedder
from alignguard_data.dedup.edges import Limits, identity_of


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseConfig:
    """Sizes of files and row groups, and how close two rows may be.

    Sizes are in bytes of images. Of two rows that are too close one gives way (see
    :mod:`alignguard_data.dedup.decide`).
    """

    max_file_bytes: int = 500_000_000
    row_group_bytes: int = 100_000_000
    max_phash_distance: int = 4
    """Bits, of 64, in which perceptual hashes of two images differ that count as one."""
    max_prompt_jaccard: float | None = 0.8
    """Jaccard index of 3-word shingles above which two unsafe prompts count as one."""
    max_semantic_cosine: float | None = None
    """Cosine of embeddings above which two unsafe prompts count as one; needs an embedder."""
    licence: str = ""
    """SPDX id or address of what the card and the Croissant metadata grant; empty for nothing."""

    @property
    def limits(self) -> Limits:
        """What counts as a duplicate."""
        return Limits(
            max_prompt_jaccard=self.max_prompt_jaccard,
            max_phash_distance=self.max_phash_distance,
            max_semantic_cosine=self.max_semantic_cosine,
        )

    def judged_by(self, embedder: TextEmbedder | None) -> str | None:
        """What judges meanings; an embedder that no limit asks for changes nothing."""
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
