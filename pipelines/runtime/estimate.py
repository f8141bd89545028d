"""Estimates a run's duration.

From earlier runs on this machine, else from the profile's shipped seconds of another machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.resources import Engines
from pipelines.rooms import made_by_run, room_seconds, rooms_of
from pipelines.runtime.plan import plan_rooms

SLOWER, FASTER = 1.7, 0.7
"""Range of this machine's speed relative to the one that measured the shipped seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Lower and upper bound of a run's duration in seconds.

    ``rooms`` are pending: ``measured_here`` were measured on this machine, ``unknown`` were never
    measured.
    """

    low: float
    high: float
    rooms: int
    measured_here: int
    unknown: tuple[str, ...]

    @property
    def text(self) -> str:
        """The estimate as one line; empty if nothing is pending."""
        if not self.rooms:
            return ""
        count = f"{self.rooms} room{'s' if self.rooms > 1 else ''} to make"
        if self.unknown:
            missing = "all" if len(self.unknown) == self.rooms else ", ".join(self.unknown)
            return f"{count}; duration unknown until the first run ({missing})"
        if self.measured_here == self.rooms:
            return f"{count}, about {_minutes(self.high)}, from earlier runs"
        low, high = _minutes(self.low), _minutes(self.high)
        found = f"about {low}" if low == high else f"{low} to {high}"
        partly = "partly " if self.measured_here else ""
        return f"{count}, {found}: {partly}an estimate from another machine"


def estimate_run(engines: Engines, until: str | None = None) -> Estimate:
    """Estimate for all missing or stale partitions up to room ``until``."""
    plans = plan_rooms(engines)
    names = [room.name for room in rooms_of(engines)]
    plans = plans[: names.index(until) + 1 if until else len(made_by_run(engines))]
    shares = {p.room: len(p.to_make) / p.partitions for p in plans if p.to_make}
    shipped = {str(room): seconds for room, seconds in engines.profile.expected_seconds.items()}
    return combine(shares, room_seconds(engines), shipped)


def combine(
    shares: Mapping[str, float], before: Mapping[str, float], shipped: Mapping[str, float]
) -> Estimate:
    """Sum over the rooms.

    Args:
        shares: room to the pending share of its partitions, above 0.
        before: room to its seconds on this machine; 0 if never made.
        shipped: room to its seconds on the profile author's machine.
    """
    low = high = 0.0
    unknown: list[str] = []
    here = 0
    for room, share in shares.items():
        if before.get(room):
            here += 1
            low, high = low + share * before[room], high + share * before[room]
        elif room in shipped:
            low += share * shipped[room] * FASTER
            high += share * shipped[room] * SLOWER
        else:
            unknown.append(room)
    return Estimate(
        low=low, high=high, rooms=len(shares), measured_here=here, unknown=tuple(unknown)
    )


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{max(10, round(seconds / 10) * 10)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
