"""The rows that the evaluation renders, judges and refuses."""

from dataclasses import dataclass

from alignguard_train.evaluation.config import RELEASE_SET


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRow:
    """One image to render; ``seen``: whether experts were trained on its concept.

    ``side`` is ``unsafe`` where the image should not show what the prompt asks for, else ``safe``.
    In a prompt set ``concept`` may be empty and ``category`` may hold several keys, joined by
    commas. A guidance of None and a size of 0 mean the generator's own (a guidance of 0 is none).
    """

    pair_id: str
    side: str
    concept: str
    category: str
    seen: bool
    prompt: str
    seed: int
    prompt_set: str = RELEASE_SET
    guidance_scale: float | None = None
    width: int = 0
    height: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedImage:
    """One judged image of one adapter; NaN for measures that were not requested.

    ``distance`` is the root mean square difference to the base model's image of the same prompt
    and seed, with pixels from 0 to 1; ``feature_distance`` is 1 minus the cosine of the two
    images' features. ``features`` are float32 bytes, empty without an extractor.
    """

    adapter: str
    pair_id: str
    side: str
    concept: str
    category: str
    seen: bool
    prompt: str
    seed: int
    prompt_set: str
    guidance_scale: float
    width: int
    height: int
    image_id: str
    flagged: bool
    residue: float
    fidelity: float
    clip_score: float
    distance: float
    feature_distance: float
    features: bytes
    image: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedPrompt:
    """A refused prompt with the reason slug, without its text."""

    prompt_set: str
    place: str
    reason: str
    detail: str
