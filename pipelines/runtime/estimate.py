"""How long a run will take, before anything is made.

From what was made here before, else from the seconds that the profile ships, which another machine
took.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.resources import Engines
from pipelines.rooms import ROOMS, room_seconds
from pipelines.runtime.plan import plan_rooms

SLOWER, FASTER = 1.7, 0.7
"""How far another machine may be from the one that the shipped seconds come from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Seconds, at least and at the most.

    ``rooms`` are made, ``measured_here`` of them were made on this machine before, and of
    ``unknown`` nothing says how long they take.
    """

    low: float
    high: float
    rooms: int
    measured_here: int
    unknown: tuple[str, ...]

    @property
    def text(self) -> str:
        """One line for a person; empty where nothing is to be made."""
        if not self.rooms:
            return ""
        count = f"{self.rooms} room{'s' if self.rooms > 1 else ''} to make"
        if self.unknown:
            missing = "all" if len(self.unknown) == self.rooms else ", ".join(self.unknown)
            return f"{count}; how long is not known before it was done once ({missing})"
        if self.measured_here == self.rooms:
            return f"{count}, about {_minutes(self.high)}, as long as it took before"
        low, high = _minutes(self.low), _minutes(self.high)
        found = f"about {low}" if low == high else f"{low} to {high}"
        partly = "partly " if self.measured_here else ""
        return f"{count}, {found}: {partly}an estimate from another machine"


def estimate_run(engines: Engines, until: str | None = None) -> Estimate:
    """The estimate for everything up to the room ``until`` that is missing or stale."""
    plans = plan_rooms(engines)
    names = [room.name for room in ROOMS]
    plans = plans[: names.index(until) + 1] if until else plans
    shares = {p.room: len(p.to_make) / p.partitions for p in plans if p.to_make}
    shipped = {str(room): seconds for room, seconds in engines.profile.expected_seconds.items()}
    return combine(shares, room_seconds(engines), shipped)


def combine(
    shares: Mapping[str, float], before: Mapping[str, float], shipped: Mapping[str, float]
) -> Estimate:
    """Add the rooms up.

    Args:
        shares: room to the share of its partitions that is to be made, above 0.
        before: room to the seconds that it took here; 0 where it was never made.
        shipped: room to the seconds that it took on the machine of the profile's author.
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
