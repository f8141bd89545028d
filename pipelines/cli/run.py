"""`alignguard run`: progress bars, then the result table."""

import time
from collections.abc import Sequence

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.storage.places import scratch
from pipelines.cli.console import Output
from pipelines.cli.report import print_summary
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from pipelines.rooms import Room, made_by_run, rooms_of
from pipelines.runtime.driver import Listener, run_rooms
from pipelines.runtime.estimate import estimate_run
from pipelines.runtime.work import expected_units
from pipelines.ui.throughput import reached

LINE_EVERY_SECONDS = 10.0


class Bars(Listener):
    """One bar per room on a terminal; occasional lines if output goes to a file."""

    def __init__(self, console: Output, engines: Engines, progress: Progress) -> None:
        self._console = console
        self._engines = engines
        self._progress = progress
        self._task: TaskID | None = None
        self._started = self._printed = 0.0
        self._done = 0
        self._total: int | None = None

    def room_started(self, room: Room, pending: Sequence[str]) -> None:
        """Show a bar for the room."""
        self.open_bar(room.name, expected_units(self._engines, room, pending))
        if not self._console.is_terminal:
            self._console.say(f"{room.name}: {len(pending)} partition(s) to make")

    def open_bar(self, name: str, total: int | None) -> None:
        """Show a bar; ``total``: its units, None if they are unknown."""
        self._total, self._done = total, 0
        self._started = self._printed = time.monotonic()
        self._task = self._progress.add_task(name, total=total)

    def close_bar(self) -> None:
        """Remove the bar, if there is one."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def advanced(self, room: str, units: int) -> None:
        """Advance the bar."""
        self._done += units
        if self._task is not None:
            self._progress.advance(self._task, units)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed >= LINE_EVERY_SECONDS:
            self._printed = now
            rate = self._done / (now - self._started)
            of = f" of {self._total}" if self._total else ""
            # The first units measure model loading rather than work.
            left = ""
            if self._total and self._done >= 0.05 * self._total:
                left = f", {(self._total - self._done) / rate:.0f} s left"
            self._console.say(f"{room}: {self._done}{of}, {rate:.1f} per second{left}")

    def room_ended(self, room: Room, made: int, pending: int) -> None:
        """Replace the bar by a line that says what was made."""
        self.close_bar()
        if not pending:
            self._console.say(self._console.mark(True), f" {room.name:<11} up to date")
            return
        seconds = time.monotonic() - self._started
        of = "" if made == pending else f" of {pending}"
        rate = self._rate(self._done / seconds) if room.name == "images" else ""
        self._console.say(
            self._console.mark(made == pending),
            f" {room.name:<11} {made}{of} made in {seconds:.1f} s{rate}",
        )

    def _rate(self, images_per_second: float) -> str:
        found = reached(self._engines.profile, images_per_second)
        words = [f"{images_per_second:.1f} images/s"]
        if "tflop_per_second" in found:
            words.append(f"{found['tflop_per_second']:g} TFLOP/s")
        if "share_of_peak" in found:
            words.append(f"{found['share_of_peak']:.0%} of the peak of {found['gpu']}")
        return f" ({', '.join(words)})"


def bars(console: Output) -> Progress:
    """Bars that vanish when they are done; none without a terminal."""
    return Progress(
        TextColumn("{task.description:<11}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def run_command(console: Output, until: str | None = None, *, as_json: bool = False) -> int:
    """Run all rooms, or those up to ``until``; returns 0 if all is done, 1 if a partition failed.

    Raises:
        ConfigError: ``until`` is not a room, or a rule is over a score that does not exist.
    """
    engines = Engines(load_profile(), data_root())
    names = [room.name for room in rooms_of(engines)]
    if until is not None and until not in names:
        raise ConfigError("--until", [f"no such room (got {until!r}); rooms: {', '.join(names)}"])
    engines.check_base_model()
    engines.check_scores()
    console.say("profile ", (engines.profile.name, "bold"), f", data in {engines.data.base}")
    if scratch(engines.data.base) != engines.data.base:
        kept = scratch(engines.data.base)
        console.say(f"unfinished work, the index and Dagster's own files in {kept}")
    if expected := estimate_run(engines, until).text:
        console.say(expected)
    progress = bars(console)
    with progress:
        report = run_rooms(engines, Bars(console, engines, progress), until)
    if as_json:
        found = {"made": report.made, "failed": report.failures, "warnings": report.warnings}
        Output().json(found)
    for reason in dict.fromkeys(report.failures.values()):
        places = [place for place, why in report.failures.items() if why == reason]
        more = f" and {len(places) - 1} more" if places[1:] else ""
        sign, style = console.mark(False)
        console.say((f"{sign} {places[0]}{more}", style), f": {reason}")
    for warning in report.warnings:
        console.say(("!", "yellow"), f" {warning}")
    if report.failures:
        console.say("Failed. Finished work is kept: fix the cause and run again.")
        return 1
    if not any(report.made.values()):
        console.say(("Everything is up to date.", "bold green"))
    if until in (None, made_by_run(engines)[-1].name, names[-1]):
        print_summary(console, engines.data)
    return 0
