"""Makes a room's measurement by the profile, or by other settings in a partition beside it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from alignguard_data.contracts.protocols import Progress
from alignguard_data.storage.paths import UNPARTITIONED
from pipelines.cli.console import Output
from pipelines.cli.run import Bars, bars
from pipelines.resources import Engines
from pipelines.rooms import Room
from pipelines.runtime.driver import run_room

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def settings_key(name: str, config: "DataclassInstance") -> str:
    """Partition of settings that are not the profile's: ``name``, dash, hash of the settings."""
    settings = json.dumps(asdict(config), sort_keys=True, default=str)
    return f"{name}-{hashlib.blake2b(settings.encode(), digest_size=4).hexdigest()}"


def make_measurement(
    console: Output,
    engines: Engines,
    room: Room,
    key: str,
    *,
    total: Callable[[], int],
    make: Callable[[Progress], object],
    kept: str,
) -> bool:
    """Make a partition of a room, with a progress bar, and say so if it failed.

    Args:
        console: where to.
        engines: of the profile.
        room: of the measurement.
        key: ``all`` makes the profile's measurement as `alignguard run` would; else ``make`` does.
        total: counts the units of progress of ``make``.
        make: makes partition ``key``; its argument counts the units.
        kept: what a failed attempt keeps, in words.

    Returns:
        Whether it is made.
    """
    failure = None
    with bars(console) as progress:
        if key == UNPARTITIONED:
            failure = run_room(engines, room, Bars(console, engines, progress))
        else:
            engines.data.prepare()
            task = progress.add_task(room.name, total=total())
            make(lambda units: progress.advance(task, units))
    if failure:
        console.say(console.mark(False), f" {room.name}: {failure}")
        console.say(f"Failed. {kept} are kept: fix the cause and run again.")
    return not failure
