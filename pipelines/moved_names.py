"""Modules that a profile could name in 0.1.0, and the packages that have their classes now."""

from collections.abc import Mapping

MOVED: Mapping[str, str] = {
    "alignguard_data.backends.concept_check": "alignguard_data.engines",
    "alignguard_data.backends.openai_text": "alignguard_data.engines",
    "alignguard_data.backends.vllm_text": "alignguard_data.engines",
    "alignguard_data.scoring.embedder": "alignguard_data.engines",
    "alignguard_data.scoring.sentences": "alignguard_data.engines",
    "alignguard_data.scoring.clip": "alignguard_data.scores",
    "alignguard_data.scoring.clip_features": "alignguard_data.scores",
    "alignguard_data.scoring.inception_features": "alignguard_data.scores",
    "alignguard_data.scoring.nudenet": "alignguard_data.scores",
    "alignguard_data.scoring.q16": "alignguard_data.scores",
    "alignguard_data.scoring.safety_checker": "alignguard_data.scores",
    "alignguard_data.scoring.twins": "alignguard_data.scores",
    "alignguard_data.scoring.vlm_judge": "alignguard_data.scores",
    "alignguard_train.recipes": "alignguard_train",
}


def new_name(use: str) -> str | None:
    """Where the function or class of an old ``module:name`` is now; None: it has not moved."""
    module, _, name = use.partition(":")
    return f"{MOVED[module]}:{name}" if module in MOVED else None
