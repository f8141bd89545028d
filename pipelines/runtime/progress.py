"""Live progress of a room: a bar where `alignguard run` draws one, else log lines at intervals."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg

LOG_EVERY_SECONDS = 10.0

_listeners: list[Callable[[str, int], None]] = []


@contextmanager
def listening(listener: Callable[[str, int], None]) -> Iterator[None]:
    """Send every meter's progress to ``listener(room, units)`` instead of the run's log."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Meter:
    """Counts finished units of one room; call with the number just finished."""

    def __init__(self, context: dg.AssetExecutionContext, room: str, unit: str) -> None:
        self._log = context.log
        self._room = room
        self._unit = unit
        self._done = 0
        self._started = self._logged = time.monotonic()

    def __call__(self, units: int) -> None:
        """Count ``units`` more."""
        self._done += units
        for listener in _listeners:
            listener(self._room, units)
        now = time.monotonic()
        if not _listeners and now - self._logged >= LOG_EVERY_SECONDS:
            self._logged = now
            rate = self._done / (now - self._started)
            self._log.info(f"{self._room}: {self._done} {self._unit} done, {rate:.1f} per second")
