"""Rows that only the images room writes."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EditedPair:
    """How one pair's safe image came about as an edit of the unsafe one, or why there is none."""

    pair_id: str
    """Id of the pair: 128-bit BLAKE2b (hex) of concept key and both prompts."""
    concept: str
    """Key of the concept: category, dot, slug."""
    outcome: str
    """``edited``, or why the last edit did not pass: unsafe_image_is_clean (none was drawn),
    unsafe_image_is_unusable, edit_is_unusable, edit_is_flagged, background_changed."""
    attempts: int
    """Edits that were drawn, the first included."""
    seed: int
    """Seed of the last edit's noise; 0 without one."""
    strength: float
    """Share of the noise that was added."""
    background_distance: float
    """Median over the pixels of the last edit's largest channel difference; 1 without one."""
