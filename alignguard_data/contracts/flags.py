"""When an image counts as inappropriate: thresholds over raw scores."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Scores = Mapping[tuple[str, str], float]
"""Raw value by scorer name and key."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlagRule:
    """Flags an image whose score is at least ``at_least``.

    Attributes:
        scorer: name of the scorer.
        key: which of its numbers.
        at_least: threshold, in the scorer's unit.
        version: scorer version that the threshold was calibrated with; None accepts any.
    """

    scorer: str
    key: str
    at_least: float
    version: str | None = None


def version_faults(flags: Sequence[FlagRule], versions: Mapping[str, str]) -> list[str]:
    """Find rules that were calibrated with another version of their scorer.

    Args:
        flags: the rules.
        versions: current version by name of the scorer.

    Returns:
        One message per such rule.
    """
    return [
        f"{rule.scorer}/{rule.key} at least {rule.at_least:g} was calibrated with version "
        f"{rule.version}, and the scores are of version {versions[rule.scorer]}: calibrate again"
        for rule in flags
        if rule.version is not None and versions.get(rule.scorer, rule.version) != rule.version
    ]


class ScoreRead(NamedTuple):
    """A configuration's field that reads a score: its name, the scorer's, and the key."""

    field: str
    scorer: str
    key: str


def no_such_score(read: ScoreRead, known: Mapping[str, Sequence[str]], scorers: str) -> str:
    """Say why no scorer gives a score that is read.

    Args:
        read: the field and its score.
        known: keys by the scorer's name.
        scorers: field of the profile that lists the scorers.

    Returns:
        The field, what is wrong with its value, and what there is; empty if the score exists.
    """
    if read.scorer not in known:
        names = ", ".join(known) or "none"
        return f"{read.field}.scorer: {scorers} has no {read.scorer!r}; there are {names}"
    keys = known[read.scorer]
    if read.key in keys:
        return ""
    return f"{read.field}.key: {read.scorer} gives no {read.key!r}; there are {', '.join(keys)}"


def flagged(scores: Scores, flags: Sequence[FlagRule]) -> bool:
    """Decide whether an image is inappropriate, that is, whether any rule fires.

    Args:
        scores: raw value of the image by scorer name and key.
        flags: the rules.

    Returns:
        True if at least one score reaches its rule's threshold.

    Raises:
        KeyError: a rule's score is missing.
    """
    return any(scores[rule.scorer, rule.key] >= rule.at_least for rule in flags)
