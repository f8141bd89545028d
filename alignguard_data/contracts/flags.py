"""When an image counts as inappropriate: thresholds over raw scores."""

import dataclasses
from collections.abc import Mapping, Sequence

Scores = Mapping[tuple[str, str], float]
"""Scorer name and key to the raw value."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlagRule:
    """An image is flagged when this score is at least this high.

    ``version`` is the scorer's that the threshold was calibrated with, None for one that holds for
    every version.
    """

    scorer: str
    key: str
    at_least: float
    version: str | None = None


def version_faults(flags: Sequence[FlagRule], versions: Mapping[str, str]) -> list[str]:
    """Rules whose threshold was calibrated with another version of their scorer.

    ``versions`` holds the present version of each scorer.
    """
    return [
        f"{rule.scorer}/{rule.key} at least {rule.at_least:g} was calibrated with version "
        f"{rule.version}, and the scores are of version {versions[rule.scorer]}: calibrate again"
        for rule in flags
        if rule.version is not None and versions.get(rule.scorer, rule.version) != rule.version
    ]


def flagged(scores: Scores, flags: Sequence[FlagRule]) -> bool:
    """Whether any rule fires; KeyError if a rule's score is not there."""
    return any(scores[rule.scorer, rule.key] >= rule.at_least for rule in flags)
