"""Users: drawn by the published distributions, or read from a file; split into seen and unseen."""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from alignguard_data.contracts.errors import ConfigError
from alignguard_train.personal.attributes import (
    AGE_GROUPS,
    ATTRIBUTES,
    OLDEST,
    age_group,
    broken_rule,
    slug,
)
from alignguard_train.personal.records import Profile

PUBLISHED = {
    "user_id": "User_ID",
    "age": "Age",
    "age_group": "Age_Group",
    "gender": "Gender",
    "religion": "Religion",
    "physical": "Physical_Condition",
    "mental": "Mental_Condition",
}
"""Field of a profile to its name in Sage's `user_data`."""
_OPTIONAL = ("age_group",)
BANS = "Banned"
"""Field of a file of users that states a user's bans instead of the rules."""
_NOT_ATTRIBUTES = {BANS, "Cluster_ID"}


def draw_users(count: int, *, seed: int) -> list[Profile]:
    """Profiles by the published distributions; one that breaks a rule is drawn again.

    A user depends on the seed and its own number only, so more users change none of the first.

    Args:
        count: number of users.
        seed: of the draws.

    Returns:
        Profiles with ids of seven digits.
    """
    return [_draw(number, seed) for number in range(count)]


def _draw(number: int, seed: int) -> Profile:
    digest = blake2b(f"user {seed} {number}".encode(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest))
    while True:
        weights = [group.probability for group in AGE_GROUPS]
        group = AGE_GROUPS[generator.choice(len(AGE_GROUPS), p=weights)]
        age = int(generator.integers(group.first, group.last + 1))
        drawn = {
            name: str(generator.choice(list(values), p=list(values.values())))
            for name, values in ATTRIBUTES.items()
        }
        if broken_rule(age, drawn["religion"], drawn["mental"]) is None:
            return Profile(user_id=f"{number:07d}", age=age, age_group=group.name, **drawn)


def unseen_users(profiles: Sequence[Profile], share: float) -> set[str]:
    """Choose the users left out of training: those whose ids hash lowest.

    Args:
        profiles: of all users.
        share: of the users, in [0, 1]; rounded to whole users.

    Returns:
        Their ids.
    """
    ranked = sorted(
        (profile.user_id for profile in profiles),
        key=lambda name: blake2b(name.encode(), digest_size=8).digest(),
    )
    return set(ranked[: round(len(ranked) * share)])


def read_users(file: Path, categories: Sequence[str]) -> tuple[list[Profile], dict[str, list[str]]]:
    """Profiles of a JSON Lines file in Sage's spelling, and the bans that lines state themselves.

    ``Banned`` is optional: a list of ``categories``. Fields that are no attribute are faults.

    Args:
        file: one JSON object a line; empty lines are skipped.
        categories: the names that a ban may have.

    Returns:
        Profiles in the file's order, and bans by user id where a line has them.

    Raises:
        ConfigError: the file cannot be read, or a line is wrong; every fault with field, line and
            value.
    """
    faults: list[str] = []
    profiles: list[Profile] = []
    bans: dict[str, list[str]] = {}
    for place, row in _rows(file, faults):
        before = len(faults)
        values = dict(_values(place, row, faults))
        banned = _banned(place, row, categories, faults)
        if len(faults) > before:
            continue
        profile = Profile(**values)
        if profile.user_id in {known.user_id for known in profiles}:
            faults.append(f"{place}: User_ID: is given twice (got {profile.user_id!r})")
            continue
        profiles.append(profile)
        if banned is not None:
            bans[profile.user_id] = banned
    if not profiles and not faults:
        faults.append("has no user")
    if faults:
        raise ConfigError(str(file), faults)
    return profiles, bans


def _rows(file: Path, faults: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), [f"cannot be read: {error}"]) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            faults.append(f"line {number}: is not JSON: {error.msg}")
            continue
        if isinstance(row, dict):
            yield f"line {number}", row
        else:
            faults.append(f"line {number}: must be an object (got {_shown(row)})")


def _values(place: str, row: Mapping[str, Any], faults: list[str]) -> Iterator[tuple[str, Any]]:
    """The profile's fields that are right; a fault for each other one."""
    known = {*PUBLISHED.values(), *_NOT_ATTRIBUTES}
    for name in row:
        if name not in known:
            names = ", ".join(sorted(known))
            faults.append(f"{place}: {name}: is not known; there are {names}")
    for field, name in PUBLISHED.items():
        given = row.get(name)
        if field == "age_group" or given is None:
            if given is None and field not in _OPTIONAL:
                faults.append(f"{place}: {name}: is missing")
            continue
        value, fault = _value(field, given)
        if fault:
            faults.append(f"{place}: {name}: {fault} (got {_shown(given)})")
        else:
            yield field, value
    yield from _group(place, row, faults)


def _value(field: str, given: Any) -> tuple[str | int, str]:
    """The value as a profile holds it, and its fault."""
    if field == "age":
        good = isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= OLDEST
        return (given, "") if good else (0, f"must be a whole number from 0 to {OLDEST}")
    if not isinstance(given, str) or not given.strip():
        return "", "must be text"
    if field == "user_id":
        return given.strip(), ""
    known = ATTRIBUTES[field]
    return slug(given), "" if slug(given) in known else f"must be one of {', '.join(known)}"


def _group(place: str, row: Mapping[str, Any], faults: list[str]) -> Iterator[tuple[str, Any]]:
    """The age's group; a stated one must not contradict it."""
    stated = row.get("Age_Group")
    age, fault = _value("age", row.get("Age"))
    if fault:
        return
    group = age_group(int(age))
    if stated is not None and slug(str(stated)) != group:
        faults.append(
            f"{place}: Age_Group: is {group} at age {age}; leave it out (got {_shown(stated)})"
        )
    else:
        yield "age_group", group


def _banned(
    place: str, row: Mapping[str, Any], categories: Sequence[str], faults: list[str]
) -> list[str] | None:
    given = row.get(BANS)
    if given is None:
        return None
    if not isinstance(given, list):
        faults.append(f"{place}: {BANS}: must be a list of categories (got {_shown(given)})")
        return None
    for number, name in enumerate(given):
        if name not in categories:
            known = ", ".join(categories)
            what = f"no such category; there are {known} (got {_shown(name)})"
            faults.append(f"{place}: {BANS}.{number}: {what}")
    return [name for name in categories if name in given]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
