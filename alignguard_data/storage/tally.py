"""Wanted and made units of a partition, counted alike by every room.

A partition that wanted units and made none is not done. Its refused rows are kept next to
the partition under :data:`NOTHING`, with the most common reason and an example that is safe to
show. The old partition stays, and the next run tries again.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alignguard_data.contracts.errors import NothingMade
from alignguard_data.storage.manifest import Manifest

NOTHING = "nothing.json"
"""Manifest of the last attempt that made nothing, next to the partition's own."""

_SHOWN = 100  # characters of a masked reply
_PLAIN = {"unsafe_prompt", "safe_prompt", "json", "think"}  # words of the format


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """``made`` of ``wanted`` units.

    ``unit`` is a plural, such as "pairs". ``example`` is a refused row that is safe to show, with
    text :func:`masked`. ``choosing``: the room exists to drop rows, so a shortage is expected.
    """

    wanted: int
    made: int
    unit: str
    example: str = ""
    choosing: bool = False

    def counts(self) -> dict[str, int | str]:
        """The entries for the manifest's counts."""
        short = 0 if self.choosing else max(0, self.wanted - self.made)
        return {"wanted": self.wanted, "made": self.made, "unit": self.unit, "short_by": short}

    def summary(self, rejected: Mapping[str, int]) -> str:
        """Sum up an attempt in one line.

        Args:
            rejected: number of dropped rows by reason slug.

        Returns:
            Made and wanted units, the most common reason, and an example.
        """
        shown = f"; for example {self.example}" if self.example else ""
        why = f"commonest reason {commonest(rejected)}" if rejected else "no reason is known"
        return f"{self.made} of {self.wanted} {self.unit}; {why}{shown}"


def short_by(manifest: Manifest) -> int:
    """Count the wanted units that are missing.

    Args:
        manifest: manifest of a complete partition.

    Returns:
        Number of units; 0 if none are missing.
    """
    return int(manifest.counts.get("short_by", 0))


def too_few(counts: Mapping[str, Any], least: int) -> bool:
    """Whether a partition with these counts is not done.

    A partition that wanted nothing may be empty.

    Args:
        counts: counts of the partition's manifest.
        least: the least number of units of a partition that is done.

    Returns:
        True if it has fewer.
    """
    return int(counts.get("wanted", 0)) > 0 and int(counts["made"]) < least


def commonest(rejected: Mapping[str, int]) -> str:
    """Find the most common reason; ties go to the first in the alphabet.

    Args:
        rejected: number of dropped rows by reason slug.

    Returns:
        The reason with its count, or ``unknown``.
    """
    if not rejected:
        return "unknown"
    reason, count = min(rejected.items(), key=lambda item: (-item[1], item[0]))
    return f"{reason} ({count} of {sum(rejected.values())})"


def summarize(attempts: Sequence[Manifest]) -> str:
    """:meth:`Tally.summary` of several partitions of a room that made nothing, added up.

    Args:
        attempts: manifests of the attempts.

    Returns:
        One line.
    """
    counts = [attempt.counts for attempt in attempts]
    reasons: Counter[str] = Counter()
    for attempt in attempts:
        reasons.update(attempt.rejected)
    total = Tally(
        wanted=sum(c["wanted"] for c in counts),
        made=sum(c["made"] for c in counts),
        unit=counts[0]["unit"],
        example=next((c["example"] for c in counts if c["example"]), ""),
    )
    return total.summary(reasons)


def masked(text: str) -> str:
    """Hide what a reply says; punctuation and line ends stay.

    Args:
        text: a reply that may be harmful.

    Returns:
        The text with x for every letter and 0 for every digit.
    """

    def hide(word: re.Match[str]) -> str:
        if word[0] in _PLAIN:
            return word[0]
        return "".join("0" if letter.isdigit() else "x" for letter in word[0])

    shape = re.sub(r"\w+", hide, text[: 4 * _SHOWN].replace("\n", "\\n"))
    if not shape.strip():
        return "an empty reply"
    return f"`{shape[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}`"


def make_each(keys: Sequence[str], make: Callable[[str], None]) -> None:
    """Call ``make`` for each key, and continue if one makes nothing.

    Args:
        keys: keys of the partitions.
        make: makes one partition.

    Raises:
        NothingMade: some partitions made nothing; one line each.
    """
    empty: list[NothingMade] = []
    for key in keys:
        try:
            make(key)
        except NothingMade as error:
            empty.append(error)
    raise_all(empty)


def raise_all(empty: Sequence[NothingMade]) -> None:
    """Raise if any partition made nothing.

    Args:
        empty: the errors; one :class:`NothingMade` gets the lines of all of them.

    Raises:
        NothingMade: ``empty`` is not empty.
    """
    if empty:
        raise NothingMade([line for error in empty for line in error.lines])
