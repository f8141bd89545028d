"""The sensor's requests and their results, stored in its cursor.

A concept whose run failed is requested again, with growing delays and a limit.
"""

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Literal

import dagster as dg

ASKED_TAG = "alignguard/asked"
"""Run tag: the request that it belongs to."""
ASKED_AT_MOST = 5
FIRST_WAIT_SECONDS = 300
"""Delay after the first failure; doubles with each further one."""

_FORMAT = 2

Outcome = Literal["asked", "running", "failed", "succeeded"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Requests of a concept in its current form.

    ``at`` is the time of the last request (seconds since 1970), ``run`` its run key.
    """

    fingerprint: str
    times: int
    at: float
    run: str

    def may_be_asked_at(self, ended: float) -> float | None:
        """Time of the next request after a run that failed at ``ended``; None: never."""
        if self.times >= ASKED_AT_MOST:
            return None
        return ended + FIRST_WAIT_SECONDS * 2 ** (self.times - 1)


def read_cursor(cursor: str | None) -> dict[str, Asked]:
    """Requested concepts; empty if another version wrote the cursor."""
    try:
        kept = json.loads(cursor or "null")
    except ValueError:
        return {}
    if not isinstance(kept, dict) or kept.get("format") != _FORMAT:
        return {}
    return {key: Asked(**one) for key, one in kept["asked"].items()}


def write_cursor(asked: Mapping[str, Asked]) -> str:
    """Inverse of :func:`read_cursor`."""
    return json.dumps(
        {"format": _FORMAT, "asked": {key: asdict(one) for key, one in sorted(asked.items())}}
    )


def outcome(instance: dg.DagsterInstance, one: Asked) -> tuple[Outcome, float]:
    """Result of the requested run, and when it ended.

    The time of the request, if it has not ended. A run restarted from the UI replaces it.
    """
    records = instance.get_run_records(dg.RunsFilter(tags={ASKED_TAG: one.run}), limit=1)
    if not records:  # not launched yet, or deleted
        return "asked", one.at
    record = records[0]
    if not record.dagster_run.is_finished:
        return "running", one.at
    ended = max(one.at, record.end_time or 0.0)
    return ("succeeded" if record.dagster_run.is_success else "failed"), ended


def runs_of(
    due: Sequence[Sequence[str]], order: Sequence[str], size: int, apart: Set[str]
) -> Iterator[list[str]]:
    """Concepts of each group as runs of at most ``size``.

    A run names only its first and last concept, so it must not span a concept of another group or
    of ``apart``. Other concepts in between are up to date, and the rooms skip them.
    """
    places = {key: i for i, key in enumerate(order)}
    for group in due:
        others = {key for one in due if one is not group for key in one} | apart
        barred = sorted(places[key] for key in others if key in places)
        run: list[str] = []
        for key in sorted(group, key=places.__getitem__):
            over = run and any(places[run[-1]] < place < places[key] for place in barred)
            if run and (over or len(run) == size):
                yield run
                run = []
            run.append(key)
        if run:
            yield run
