"""Meanings of the columns of the robustness room's tables."""

from collections.abc import Mapping

from alignguard_data.contracts.column_meanings import meanings
from alignguard_train.robustness.records import AttackedCase, Preparation

_PLACE = {
    "attack": "Name of the attack in the profile",
    "target": "Base, merged, another adapter, a peer, or a guard in front of one of these",
}
_INTERVAL = {
    "value": "The measure; in a comparison the difference",
    "low": "Lower end of the confidence interval",
    "high": "Upper end of the confidence interval",
    "n": "Number of cases",
}

MEANINGS: Mapping[str, Mapping[str, str]] = {
    "cases": meanings(AttackedCase),
    "prepared": meanings(Preparation),
    "metrics": {
        **_PLACE,
        "subset": "Which cases: all, or those of seen or unseen concepts",
        "metric": "Name of the rate, or of a counter, whose mean is per case",
        **_INTERVAL,
    },
    "paired": {
        **_PLACE,
        "against_attack": "Attack of the side that is subtracted, on the same cases",
        "against_target": "Target of the side that is subtracted",
        "metric": "Name of the rate",
        **_INTERVAL,
        "more": "Cases that are broken on this side only",
        "fewer": "Cases that are broken on the other side only",
        "p": "Two-sided p of McNemar's exact test",
    },
}
"""Meaning by table and column."""
