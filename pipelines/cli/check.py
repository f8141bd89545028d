"""One check of `alignguard doctor`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """``state`` is ``ok``, ``warning`` or ``missing``; ``fix`` is a command or hint."""

    what: str
    state: str
    found: str
    fix: str = ""
