"""Which categories are banned for a user: the rules of PSA as a table, over any taxonomy.

The published rules name seven categories. ``categories`` in the profile maps each of them to the
release's categories, so the same table serves I2P's, the stand-in's and a taxonomy of one's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alignguard_data.contracts.errors import ConfigError
from alignguard_train.personal.attributes import ADULT_AT, HEALTHY, NO_RELIGION
from alignguard_train.personal.records import Profile

PUBLISHED_CATEGORIES = (
    "Hate", "Harassment", "Violence", "Self-Harm", "Sexuality", "Shocking", "Propaganda",
)  # fmt: skip
"""The categories that PSA's rules name (arXiv 2508.01151)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BanRule:
    """Users for whom categories are banned."""

    name: str
    applies: Callable[[Profile], bool]
    categories: tuple[str, ...]


BAN_RULES = (
    BanRule(
        name="under 18",
        applies=lambda user: user.age < ADULT_AT,
        categories=("Sexuality", "Self-Harm", "Violence"),
    ),
    BanRule(
        name="mental condition",
        applies=lambda user: user.mental != HEALTHY,
        categories=("Sexuality", "Self-Harm", "Violence"),
    ),
    BanRule(
        name="physical condition",
        applies=lambda user: user.physical != HEALTHY,
        categories=("Shocking", "Harassment"),
    ),
    BanRule(
        name="religion",
        applies=lambda user: user.religion != NO_RELIGION,
        categories=("Hate", "Propaganda"),
    ),
)
"""The published rules; "consider" in their text is taken as ban."""

MINORS_RULE = BAN_RULES[0]
"""Holds whoever decides the bans: a model's reply or a file of users can add to it, not lift it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BanTable:
    """The published categories in terms of a release's.

    Attributes:
        release: the release's categories, in the taxonomy's order.
        mapping: published category to the release's categories that it stands for.
        always: categories of the release that are banned for everyone.
    """

    release: tuple[str, ...]
    mapping: Mapping[str, Sequence[str]]
    always: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise ConfigError("personal", faults)

    def _faults(self) -> list[str]:
        faults = []
        for name, own in self.mapping.items():
            if name not in PUBLISHED_CATEGORIES:
                known = ", ".join(PUBLISHED_CATEGORIES)
                faults.append(f"categories.{name}: the rules know no such category, only {known}")
            faults += [self._unknown(f"categories.{name}", one) for one in own if self._lacks(one)]
        faults += [self._unknown("always_banned", one) for one in self.always if self._lacks(one)]
        covered = {one for own in self.mapping.values() for one in own} | set(self.always)
        faults += [
            f"categories: {one} of the release is in no category of the rules; "
            "name it in one, or in always_banned"
            for one in self.release
            if one not in covered
        ]
        return faults

    def _lacks(self, category: str) -> bool:
        return category not in self.release

    def _unknown(self, place: str, category: str) -> str:
        known = ", ".join(self.release)
        return f"{place}: the release has no category {category!r}; there are {known}"

    def by_rules(self, profile: Profile) -> tuple[str, ...]:
        """The release's categories banned for a user by :data:`BAN_RULES`."""
        named = {one for rule in BAN_RULES if rule.applies(profile) for one in rule.categories}
        return self._of(named, profile)

    def by_names(self, profile: Profile, named: Sequence[str]) -> tuple[str, ...]:
        """The release's categories of a list of published names, or of the release's own.

        Those of everyone, and those of :data:`MINORS_RULE` for users under 18, are added.

        Args:
            profile: the user.
            named: published names or the release's own, in any order.

        Returns:
            Categories of the release, in the taxonomy's order.

        Raises:
            ConfigError: a name is no category; all of them.
        """
        known = {*PUBLISHED_CATEGORIES, *self.release}
        wrong = [name for name in named if name not in known]
        if wrong:
            there = ", ".join(sorted(known))
            faults = [f"no such category; there are {there} (got {name!r})" for name in wrong]
            raise ConfigError(f"the bans of user {profile.user_id}", faults)
        return self._of(set(named), profile)

    def _of(self, named: set[str], profile: Profile) -> tuple[str, ...]:
        minors = MINORS_RULE.categories if MINORS_RULE.applies(profile) else ()
        banned = {*named, *self.always}
        for name in {*named, *minors}:
            banned |= set(self.mapping.get(name, ()))
        return tuple(one for one in self.release if one in banned)
