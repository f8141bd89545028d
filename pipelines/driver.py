"""`alignguard run`: every room in order, only what is missing or stale, with live progress.

Rooms run in this process, one Dagster run each; experts train side by side in processes of
their own, one Dagster run each, and end with this process however it ends.
"""

import multiprocessing as mp
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path

from pipelines.materialize import (
    RoomFailed,
    allow_side_by_side,
    close_dead_runs,
    materialize,
    open_instance,
)
from pipelines.profile import Profile
from pipelines.resources import Engines
from pipelines.rooms import ROOMS, Room

TRAINERS = "trainers"
"""The pool of the experts and the merge."""

Advance = Callable[[str, int], None]


@dataclass(kw_only=True, slots=True)
class RunReport:
    """What one pass over the rooms did: partitions made a room, and failures by partition."""

    made: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Listener:
    """What the driver tells whoever watches; the command line draws bars from it."""

    def room_started(self, room: Room, pending: Sequence[str]) -> None:
        """A room has partitions to make."""

    def advanced(self, room: str, units: int) -> None:
        """Some units (pairs, images, steps) of a room are done."""

    def room_ended(self, room: Room, made: int, pending: int) -> None:
        """A room ended with ``made`` of its ``pending`` partitions; 0 of 0: it was up to date."""


def run_rooms(engines: Engines, listener: Listener, until: str | None = None) -> RunReport:
    """Bring every room up to date; stops before the first room whose input failed.

    Args:
        engines: the profile's.
        listener: told of every step.
        until: name of the last room to make; None: all of them.

    Raises:
        StorageError: the data root or the Dagster home cannot be written.
    """
    from pipelines.definitions import build_definitions
    from pipelines.progress import listening

    engines.data.prepare()
    instance = open_instance(engines.data.root)
    close_dead_runs(instance)
    allow_side_by_side(instance, TRAINERS, engines.profile.training.parallel)
    definitions = build_definitions(engines)
    report = RunReport()
    for room in ROOMS[: _number(until)]:
        pending = _pending(engines, instance, room)
        if pending:
            listener.room_started(room, pending)
            with listening(listener.advanced):
                if room.name == "experts" and engines.profile.training.parallel > 1:
                    report.failures |= _side_by_side(engines, room, pending, listener.advanced)
                else:
                    report.failures |= _one_by_one(
                        lambda keys, room=room: materialize(
                            definitions, instance, engines, room, keys
                        ),
                        _chunks(engines, room, pending),
                        room,
                    )
        made = len(pending)
        if report.failures:
            made = sum(room.state(engines, key) == "done" for key in pending)
        report.made[room.name] = made
        listener.room_ended(room, made, len(pending))
        if report.failures:
            break
    return report


def _number(until: str | None) -> int:
    names = [room.name for room in ROOMS]
    return len(names) if until is None else names.index(until) + 1


def _pending(engines: Engines, instance: object, room: Room) -> list[str]:
    keys = room.partitions(engines)
    pending = [key for key in keys if room.state(engines, key) != "done"]
    if room.name == "taxonomy" and not pending:
        # A new Dagster home over kept data does not know the concepts' partitions yet.
        known = instance.get_dynamic_partitions(f"{engines.profile.name}_concepts")  # type: ignore[attr-defined]
        wanted = {concept.key for concept in engines.taxonomy.concepts}
        return keys if not wanted <= set(known) else []
    return pending


def _chunks(engines: Engines, room: Room, pending: list[str]) -> list[list[str]]:
    """Runs of at most the profile's number of concepts; a run names its first and last key."""
    size = engines.profile.concepts_per_run if room.partitioned_by == "concept" else 1
    return [pending[i : i + size] for i in range(0, len(pending), size)]


def _one_by_one(
    make: Callable[[list[str]], None], chunks: list[list[str]], room: Room
) -> dict[str, str]:
    failures = {}
    for keys in chunks:
        try:
            make(keys)
        except RoomFailed as error:
            failures[f"{room.name} {keys[0]}"] = str(error)
    return failures


def _side_by_side(
    engines: Engines, room: Room, pending: Sequence[str], advanced: Advance
) -> dict[str, str]:
    """One process and Dagster run an expert, at most ``training.parallel`` at a time."""
    context = mp.get_context("spawn")
    queue: Queue[tuple[str, int] | None] = context.Queue()
    relay = threading.Thread(target=_relay, args=(queue, advanced), daemon=True)
    relay.start()
    failures = {}
    with ProcessPoolExecutor(
        min(engines.profile.training.parallel, len(pending)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(queue, engines.profile, engines.data.root),
    ) as pool:
        running: dict[Future[None], str] = {
            pool.submit(_train_in_worker, room.name, key): key for key in pending
        }
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                key = running.pop(future)
                error = future.exception()
                if error is not None:
                    failures[f"{room.name} {key}"] = str(error)
    queue.put(None)
    relay.join()
    return failures


def _relay(queue: "Queue[tuple[str, int] | None]", advanced: Advance) -> None:
    while (item := queue.get()) is not None:
        advanced(*item)


_worker: dict[str, object] = {}


def _start_worker(queue: "Queue[tuple[str, int] | None]", profile: Profile, root: Path) -> None:
    """Set a worker process up: one thread for the maths, and an end when its parent ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    _worker["queue"] = queue
    _worker["engines"] = Engines(profile, root)


def _end_with_parent() -> None:
    parent = mp.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _train_in_worker(room_name: str, key: str) -> None:
    from pipelines.definitions import build_definitions
    from pipelines.progress import listening

    engines = _worker["engines"]
    queue = _worker["queue"]
    assert isinstance(engines, Engines)
    room = next(room for room in ROOMS if room.name == room_name)
    instance = open_instance(engines.data.root)
    with listening(lambda name, units: queue.put((name, units))):  # type: ignore[attr-defined]
        materialize(build_definitions(engines), instance, engines, room, [key])
