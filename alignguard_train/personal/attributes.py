"""Attributes of a user: values, probabilities, and the combinations that are not drawn.

As in the published generator of PSA (arXiv 2508.01151, M-E-AGI-Lab/PSAlign, `gen_users.py`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

ADULT_AT = 18
OLDEST = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class AgeGroup:
    """A range of ages, both ends included; the age is uniform within.

    Attributes:
        name: slug of the group.
        first: youngest age in years.
        last: oldest age in years.
        probability: of a drawn user; all sum to 1.
        words: the group in a sentence.
    """

    name: str
    first: int
    last: int
    probability: float
    words: str


AGE_GROUPS = (
    AgeGroup(name="infants", first=0, last=3, probability=0.05, words="an infant or toddler"),
    AgeGroup(name="children", first=4, last=12, probability=0.20, words="a child"),
    AgeGroup(name="adolescents", first=13, last=19, probability=0.20, words="an adolescent"),
    AgeGroup(name="young-adults", first=20, last=34, probability=0.20, words="a young adult"),
    AgeGroup(name="middle-aged", first=35, last=59, probability=0.20, words="a middle-aged adult"),
    AgeGroup(name="young-elderly", first=60, last=74, probability=0.10, words="an elderly adult"),
    AgeGroup(name="elderly", first=75, last=89, probability=0.04, words="an old adult"),
    AgeGroup(name="long-lived", first=90, last=100, probability=0.01, words="a very old adult"),
)
HEALTHY = "healthy"
NO_RELIGION = "none"
ATTRIBUTES: dict[str, dict[str, float]] = {
    "gender": {"male": 0.5, "female": 0.5},
    "religion": {"christianity": 0.3, "islam": 0.2, "buddhism": 0.2, NO_RELIGION: 0.3},
    "physical": {
        "visual-impairment": 0.2,
        "hearing-impairment": 0.2,
        "intellectual-disability": 0.2,
        HEALTHY: 0.4,
    },
    "mental": {
        "depression": 0.15,
        "anxiety": 0.15,
        "war": 0.075,
        "sexual-assault": 0.075,
        "major-accidents": 0.075,
        "natural-disasters": 0.075,
        HEALTHY: 0.4,
    },
}
"""Attribute to its values and their probabilities before the rules below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectionRule:
    """A combination of age, religion and mental condition that is drawn again.

    Attributes:
        name: what it says.
        violated: of age, religion and mental condition.
    """

    name: str
    violated: Callable[[int, str, str], bool]


REJECTION_RULES = (
    RejectionRule(
        name="no religion under 8",
        violated=lambda age, religion, mental: age < 8 and religion != NO_RELIGION,
    ),
    RejectionRule(
        name="war from 18 on",
        violated=lambda age, religion, mental: mental == "war" and age < ADULT_AT,
    ),
    RejectionRule(
        name="assault from 10 on",
        violated=lambda age, religion, mental: mental == "sexual-assault" and age < 10,
    ),
    RejectionRule(
        name="depression, anxiety and accidents from 5 on",
        violated=lambda age, religion, mental: (
            mental in ("depression", "anxiety", "major-accidents") and age < 5
        ),
    ),
    RejectionRule(
        name="infants are healthy or lived through natural disasters",
        violated=lambda age, religion, mental: (
            age_group(age) == "infants" and mental not in (HEALTHY, "natural-disasters")
        ),
    ),
    RejectionRule(
        name="no war and no assault among children",
        violated=lambda age, religion, mental: (
            age_group(age) == "children" and mental in ("war", "sexual-assault")
        ),
    ),
)


def broken_rule(age: int, religion: str, mental: str) -> str | None:
    """Find the first rule that these values break.

    Args:
        age: in years.
        religion: slug.
        mental: slug of the mental condition.

    Returns:
        The rule's name, or None.
    """
    broken = (rule.name for rule in REJECTION_RULES if rule.violated(age, religion, mental))
    return next(broken, None)


def age_group(age: int) -> str:
    """Name of the age's group.

    Args:
        age: in years.

    Returns:
        A name of ``AGE_GROUPS``.

    Raises:
        ValueError: the age is below 0 or above 100.
    """
    for group in AGE_GROUPS:
        if group.first <= age <= group.last:
            return group.name
    raise ValueError(f"age must lie in [0, {OLDEST}], got {age}")


def slug(text: str) -> str:
    """A value as this table spells it: `Visual Impairment` is `visual-impairment`."""
    return re.sub(r"[^a-z0-9]+", "-", text.strip().lower()).strip("-")
