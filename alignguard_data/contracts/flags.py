"""When an image counts as inappropriate: thresholds over raw scores."""

import dataclasses
from collections.abc import Mapping, Sequence

Scores = Mapping[tuple[str, str], float]
"""Raw value by scorer name and key."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlagRule:
    """Flags an image whose score is at least ``at_least``.

    ``version`` is the scorer version that the threshold was calibrated with; None: any.
    """

    scorer: str
    key: str
    at_least: float
    version: str | None = None


def version_faults(flags: Sequence[FlagRule], versions: Mapping[str, str]) -> list[str]:
    """One message per rule calibrated with another version of its scorer.

    ``versions`` holds the current version of each scorer.
    """
    return [
        f"{rule.scorer}/{rule.key} at least {rule.at_least:g} was calibrated with version "
        f"{rule.version}, and the scores are of version {versions[rule.scorer]}: calibrate again"
        for rule in flags
        if rule.version is not None and versions.get(rule.scorer, rule.version) != rule.version
    ]


def flagged(scores: Scores, flags: Sequence[FlagRule]) -> bool:
    """Whether any rule fires; KeyError if a rule's score is missing."""
    return any(scores[rule.scorer, rule.key] >= rule.at_least for rule in flags)
