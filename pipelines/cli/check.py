"""One thing that `alignguard doctor` looked at."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """``state`` is ``ok``, ``warning`` or ``missing``; ``fix`` is the line that mends it."""

    what: str
    state: str
    found: str
    fix: str = ""
