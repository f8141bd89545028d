"""Which scores a profile's rules read, and whether its scorers give them.

A rule over a score that does not exist would be found by the room that reads it, after prompts were
written and images drawn. Most scorers are classes that state their name and keys, so it is found
when the profile is read; the rest by :func:`unknown_scores`, which builds them.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alignguard_data.contracts.flags import ScoreRead, no_such_score

if TYPE_CHECKING:
    from pipelines.profile import Profile

Keys = Mapping[str, Sequence[str]]
"""Scorers' names and the keys of their scores."""


_Reads = list[tuple[tuple[str, ...], list[ScoreRead]]]


def _scores_read(profile: "Profile") -> _Reads:
    """What is read, each with the profile's fields that list the scorers to give it."""
    coherent = profile.robustness.coherent
    field = "robustness.coherent"
    attacked = [ScoreRead(field, coherent.scorer, coherent.key)] if coherent else []
    edited = profile.edited_pairs.scores_read() if profile.edited_pairs else []
    return [
        (("image_scorers",), [*profile.filter.scores_read(), *edited]),
        (("pair_scorers",), profile.filter.pair_scores_read()),
        (("evaluation_scorers",), profile.evaluation.scores_read()),
        (("evaluation_scorers", "robustness_scorers"), attacked),
    ]


def unknown_scores(profile: "Profile", known: Mapping[str, Keys]) -> list[str]:
    """One message per field whose score no scorer gives, with the field and the value.

    Args:
        profile: the profile.
        known: the scorers by the profile's field that lists them.
    """
    return [
        fault
        for fields, reads in _scores_read(profile)
        for read in reads
        if (fault := no_such_score(read, _together(known, fields), " and ".join(fields)))
    ]


def faults_of_stated(profile: "Profile") -> list[str]:
    """The messages of :func:`unknown_scores` that need no scorer built."""
    faults = []
    for fields, reads in _scores_read(profile):
        engines = [engine for field in fields for engine in getattr(profile, field)]
        stated = [_stated(engine.builder) for engine in engines]
        known = dict(one for one in stated if one)
        faults += [
            fault
            for read in reads
            if read.scorer in known or all(stated)  # else another may have that name
            if (fault := no_such_score(read, known, " and ".join(fields)))
        ]
    return faults


def _together(known: Mapping[str, Keys], fields: Sequence[str]) -> dict[str, Sequence[str]]:
    return {name: keys for field in fields for name, keys in known[field].items()}


def _stated(scorer: Any) -> tuple[str, tuple[str, ...]] | None:
    """Name and keys that a scorer's class states for all its objects, else None."""
    name, keys = (getattr(scorer, one, None) for one in ("name", "keys"))
    if isinstance(scorer, type) and isinstance(name, str) and isinstance(keys, tuple | list):
        return name, tuple(map(str, keys))
    return None
