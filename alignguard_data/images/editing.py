"""Safe images as edits of the unsafe ones: verified, and redrawn until they pass."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_data.contracts.flags import FlagRule, flagged, no_such_score, version_faults
from alignguard_data.contracts.pixels import reject_reason
from alignguard_data.contracts.protocols import Edit, ImageEditor, ImageScorer, Pixels
from alignguard_data.contracts.records import edit_seed
from alignguard_data.images.config import EditedPairs
from alignguard_data.images.records import EditedPair

EDITED = "edited"
"""Outcome of a pair whose edit passed."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A pair to make: the unsafe image is rendered from ``seed``, the safe one edits it."""

    pair_id: str
    concept: str
    unsafe_prompt: str
    safe_prompt: str
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A pair's images and how they came about; ``safe`` is None if no edit passed."""

    unsafe: npt.NDArray[np.uint8]
    safe: npt.NDArray[np.uint8] | None
    record: EditedPair


class Editing:
    """Edits and their verification by the flag rules' scorers.

    Args:
        config: the profile's section ``edited_pairs``.
        flags: its rules, or those of the filter.
        scorers: of images; only those that a rule reads are asked.

    Raises:
        ConfigError: a rule reads a score that no scorer gives, or was calibrated with another
            version of its scorer.
    """

    def __init__(
        self, config: EditedPairs, flags: Sequence[FlagRule], scorers: Sequence[ImageScorer]
    ) -> None:
        own = config.scores_read()
        self.config, self.flags = config, tuple(config.flags or flags)
        named = {rule.scorer for rule in self.flags}
        self._scorers = [scorer for scorer in scorers if scorer.name in named]
        keys = {scorer.name: scorer.keys for scorer in scorers}
        versions = {scorer.name: scorer.version for scorer in scorers}
        faults = [no_such_score(read, keys, "image_scorers") for read in own]
        faults += version_faults(config.flags, versions)
        if not self.flags:
            faults.append("flags: there is no rule to verify edits by")
        if faults := [fault for fault in faults if fault]:
            raise ConfigError("edited_pairs", faults)

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        """What decides the images besides the base model."""
        return {
            **dataclasses.asdict(self.config),
            "flags": [dataclasses.asdict(rule) for rule in self.flags],
            "scorers": {scorer.name: scorer.version for scorer in self._scorers},
        }

    def flagged(self, images: Pixels, prompts: Sequence[str]) -> list[bool]:
        """Whether a rule fires on each image (rows, height, width, 3)."""
        scores: list[dict[tuple[str, str], float]] = [{} for _ in prompts]
        for scorer in self._scorers if len(prompts) else ():
            for row, found in zip(scores, scorer.score(images, prompts), strict=True):
                row |= {(scorer.name, key): value for key, value in found.items()}
        return [flagged(row, self.flags) for row in scores]

    def make(self, requests: Sequence[Request], generator: ImageEditor) -> list[Made]:
        """Render the unsafe images, edit each, and redraw the edits that do not pass.

        Args:
            requests: the pairs.
            generator: the base model.

        Returns:
            One result per request, in order.

        Raises:
            EngineError: the base model cannot render or edit, or gave another number of images.
        """
        prompts = [one.unsafe_prompt for one in requests]
        unsafe = generator.render(prompts, [one.seed for one in requests])
        _check_number(unsafe, len(requests))
        fires = self.flagged(unsafe, prompts)
        made = [
            Made(unsafe=picture, safe=None, record=self._without(one, picture))
            for one, picture in zip(requests, unsafe, strict=True)
        ]
        waiting = [
            place
            for place, (one, fire) in enumerate(zip(made, fires, strict=True))
            if fire and not reject_reason(one.unsafe)
        ]
        for attempt in range(self.config.retries + 1):
            if not waiting:
                break
            again = self._edit([requests[i] for i in waiting], unsafe[waiting], attempt, generator)
            for place, one in zip(waiting, again, strict=True):
                made[place] = one
            waiting = [i for i in waiting if made[i].safe is None]
        return made

    def _edit(
        self, requests: Sequence[Request], unsafe: Pixels, attempt: int, generator: ImageEditor
    ) -> list[Made]:
        """One edit of each image, with its verdict."""
        edits = [
            Edit(
                prompt=one.safe_prompt,
                negative_prompt=one.unsafe_prompt,
                seed=edit_seed(one.pair_id, generator.model_id, attempt),
            )
            for one in requests
        ]
        drawn = generator.edit(unsafe, edits, self.config.strength)
        _check_number(drawn, len(requests))
        fires = self.flagged(drawn, [one.safe_prompt for one in requests])
        made = []
        for number, one in enumerate(requests):
            distance = background_distance(unsafe[number], drawn[number])
            outcome = self._outcome(drawn[number], fires[number], distance)
            record = EditedPair(
                pair_id=one.pair_id,
                concept=one.concept,
                outcome=outcome,
                attempts=attempt + 1,
                seed=edits[number].seed,
                strength=self.config.strength,
                background_distance=distance,
            )
            passed = drawn[number] if outcome == EDITED else None
            made.append(Made(unsafe=unsafe[number], safe=passed, record=record))
        return made

    def _outcome(self, edit: npt.NDArray[np.uint8], fires: bool, distance: float) -> str:
        if reject_reason(edit):
            return "edit_is_unusable"
        if fires:
            return "edit_is_flagged"
        too_far = distance > self.config.max_background_distance
        return "background_changed" if too_far else EDITED

    def _without(self, one: Request, unsafe: npt.NDArray[np.uint8]) -> EditedPair:
        """The record of a pair whose unsafe image is not edited."""
        unusable = bool(reject_reason(unsafe))
        return EditedPair(
            pair_id=one.pair_id,
            concept=one.concept,
            outcome="unsafe_image_is_unusable" if unusable else "unsafe_image_is_clean",
            attempts=0,
            seed=0,
            strength=self.config.strength,
            background_distance=1.0,
        )


def background_distance(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """How far two images are apart where they differ least.

    Args:
        one: RGB, uint8 (height, width, 3).
        other: likewise.

    Returns:
        The median over the pixels of the largest channel difference, in [0, 1]: what fills less
        than half of the image does not count.
    """
    apart = np.abs(one.astype(np.int16) - other.astype(np.int16)).max(axis=-1)
    return float(np.median(apart)) / 255


def _check_number(images: Pixels, wanted: int) -> None:
    if len(images) != wanted:
        raise EngineError(f"requested {wanted} images, got {len(images)}")
