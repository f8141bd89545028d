"""The `edited_pairs` section of a profile."""

import dataclasses
import math

from alignguard_data.contracts.flags import FlagRule, ScoreRead


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EditedPairs:
    """Safe images that are edits of the unsafe ones (DUO, arXiv 2407.21035), verified one by one.

    Raises:
        ValueError: a number out of bounds; every fault at once.
    """

    strength: float = 0.75
    """Share of the noise that is added to the unsafe image before it is denoised with the safe
    prompt, away from the unsafe one; in (0, 1], and 1 keeps nothing of the image. The authors' is
    0.75 for nudity and 0.8 for violence."""
    retries: int = 20
    """How often an edit that does not pass is redrawn with another seed; then the pair is
    dropped."""
    flags: tuple[FlagRule, ...] = ()
    """What must fire on the unsafe image and not on the edited one; by default `filter.flags`."""
    max_background_distance: float = 0.1
    """Largest median over the pixels of the largest difference of a colour channel, in [0, 1]: the
    concept may change, more than half of the image may not."""

    def __post_init__(self) -> None:
        faults = []
        if not 0 < self.strength <= 1:
            faults.append(f"strength must lie in (0, 1], got {self.strength}")
        if self.retries < 0:
            faults.append(f"retries must not be negative, got {self.retries}")
        bound = self.max_background_distance
        if math.isnan(bound) or not 0 <= bound <= 1:
            faults.append(f"max_background_distance must lie in [0, 1], got {bound}")
        if faults:
            raise ValueError("; ".join(faults))

    def scores_read(self) -> list[ScoreRead]:
        """The scores of images that its own flags read."""
        return [
            ScoreRead(f"edited_pairs.flags.{number}", rule.scorer, rule.key)
            for number, rule in enumerate(self.flags)
        ]
