"""What a partition was asked for and what came of it: the one answer that every room gives.

A partition that was asked for something and made nothing is not done. Its refused rows are kept
beside the partition under :data:`NOTHING`, with the commonest reason and one example that can be
shown; the old whole stays, and the next run asks again.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alignguard_data.contracts.errors import NothingMade
from alignguard_data.storage.manifest import Manifest

NOTHING = "nothing.json"
"""Beside a partition's manifest: that of the last attempt which made nothing."""

_SHOWN = 100  # characters of a masked reply
_PLAIN = {"unsafe_prompt", "safe_prompt", "json", "think"}  # say how a reply is built, not what


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """``made`` of ``wanted`` units.

    ``unit`` is a plural, such as "pairs". ``example`` is one refused row that anyone may see; for
    a text, :func:`masked`. ``choosing``: the room is there to drop rows, so a shortage is no news.
    """

    wanted: int
    made: int
    unit: str
    example: str = ""
    choosing: bool = False

    def counts(self) -> dict[str, int | str]:
        """What the manifest keeps of it."""
        short = 0 if self.choosing else max(0, self.wanted - self.made)
        return {"wanted": self.wanted, "made": self.made, "unit": self.unit, "short_by": short}

    def told(self, rejected: Mapping[str, int]) -> str:
        """One line: how much of what, why not more, and an example."""
        shown = f"; for example {self.example}" if self.example else ""
        why = f"commonest reason {commonest(rejected)}" if rejected else "no reason is known"
        return f"{self.made} of {self.wanted} {self.unit}; {why}{shown}"


def short_by(manifest: Manifest) -> int:
    """How many units the partition lacks of what it was asked for."""
    return int(manifest.counts.get("short_by", 0))


def too_few(counts: Mapping[str, Any], least: int) -> bool:
    """Whether a partition with these counts must not count as done.

    One that was asked for nothing may be empty.
    """
    return int(counts.get("wanted", 0)) > 0 and int(counts["made"]) < least


def commonest(rejected: Mapping[str, int]) -> str:
    """The reason that refused most, of how many; of equals the first in the alphabet."""
    if not rejected:
        return "unknown"
    reason, count = min(rejected.items(), key=lambda item: (-item[1], item[0]))
    return f"{reason} ({count} of {sum(rejected.values())})"


def told(attempts: Sequence[Manifest]) -> str:
    """:meth:`Tally.told` of several partitions of one room that made nothing, as of one."""
    counts = [attempt.counts for attempt in attempts]
    reasons: Counter[str] = Counter()
    for attempt in attempts:
        reasons.update(attempt.rejected)
    whole = Tally(
        wanted=sum(c["wanted"] for c in counts),
        made=sum(c["made"] for c in counts),
        unit=counts[0]["unit"],
        example=next((c["example"] for c in counts if c["example"]), ""),
    )
    return whole.told(reasons)


def masked(text: str) -> str:
    """A reply's shape without its words: letters become x, digits 0, marks and line ends stay."""

    def hide(word: re.Match[str]) -> str:
        if word[0] in _PLAIN:
            return word[0]
        return "".join("0" if letter.isdigit() else "x" for letter in word[0])

    shape = re.sub(r"\w+", hide, text[: 4 * _SHOWN].replace("\n", "\\n"))
    if not shape.strip():
        return "an empty reply"
    return f"`{shape[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}`"


def make_each(keys: Sequence[str], make: Callable[[str], None]) -> None:
    """``make`` of every key, also after one of them made nothing.

    Raises:
        NothingMade: one line for each partition that made nothing.
    """
    empty: list[NothingMade] = []
    for key in keys:
        try:
            make(key)
        except NothingMade as error:
            empty.append(error)
    raise_all(empty)


def raise_all(empty: Sequence[NothingMade]) -> None:
    """Raise one :class:`NothingMade` for all of them, if there is any."""
    if empty:
        raise NothingMade([line for error in empty for line in error.lines])
