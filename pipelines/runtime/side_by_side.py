"""Partitions made side by side: one process a lane, one Dagster run a chunk of partitions.

A process that dies loses the batch in flight: its chunk is reported, the other processes go on and
take over what it had not begun, and the next `alignguard run` finishes what is missing.
"""

import contextlib
import multiprocessing as mp
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

import dagster as dg

from alignguard_data.contracts.errors import AlignGuardError
from alignguard_data.storage.child_process import end_with_parent
from pipelines.profile import Profile
from pipelines.resources import Engines
from pipelines.rooms import ROOMS, Room
from pipelines.runtime.devices import DEVICE_VARIABLE, own_device
from pipelines.runtime.exit import leave
from pipelines.runtime.lanes import Lane

Advance = Callable[[str, int], None]

_CONTEXT = mp.get_context("spawn")
_SECONDS_TO_END = 20.0


class _Worker:
    """The caller's end of one process; what it is making, if anything."""

    def __init__(self, engines: Engines, room: Room, lane: Lane) -> None:
        self.lane = lane
        self.connection, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(
            target=_serve, args=(theirs, engines.profile, engines.data.root, room.name, lane)
        )
        self.process.start()
        theirs.close()  # so that the process's death is an end of file here
        self.keys: list[str] = []

    def give(self, keys: list[str]) -> None:
        """Hand one chunk over."""
        self.keys = keys
        with contextlib.suppress(BrokenPipeError):  # it died; reading says so
            self.connection.send(keys)

    def obituary(self) -> str:
        """How the process ended, and what to do."""
        self.process.join()
        code = self.process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        where = f" on {self.lane.device}" if self.lane.device else ""
        return f"its process{where} ended with {how}; what it had saved is kept, so run again"


def make_side_by_side(
    engines: Engines,
    room: Room,
    chunks: Sequence[list[str]],
    lanes: Sequence[Lane],
    advanced: Advance,
) -> dict[str, str]:
    """Make every chunk once, on whichever lane is free; returns failures by their first key.

    Args:
        engines: the profile and the data root that each process opens for itself.
        room: what is made.
        chunks: disjoint slices of the room's partitions.
        lanes: one process each, at most as many as there are chunks.
        advanced: told the room's name and the units done, from this thread.
    """
    waiting = deque(chunks)
    failures: dict[str, str] = {}
    workers = [_Worker(engines, room, lane) for lane in lanes[: len(chunks)]]
    busy: dict[object, _Worker] = {worker.connection: worker for worker in workers}
    try:
        for worker in workers:
            worker.give(waiting.popleft())
        while busy:
            for ready in wait([worker.connection for worker in busy.values()]):
                worker = busy[ready]
                place = f"{room.name} {worker.keys[0]}"
                try:
                    message = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    failures[place] = worker.obituary()
                    del busy[ready]
                    continue
                if isinstance(message, tuple):
                    advanced(*message)
                    continue
                if message is not None:
                    failures[place] = message
                if waiting:
                    worker.give(waiting.popleft())
                else:
                    del busy[ready]
    finally:
        for worker in busy.values():  # an interrupt; what they saved is kept
            worker.process.kill()
        _end(workers)
    for keys in waiting:
        failures[f"{room.name} {keys[0]}"] = "no process was left to make it; run again"
    return failures


def _end(workers: Sequence[_Worker]) -> None:
    """Idle ones end by themselves when their connection closes."""
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.process.join(_SECONDS_TO_END)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _serve(
    connection: Connection, profile: Profile, root: Path, room_name: str, lane: Lane
) -> None:
    """What a worker process does: chunks in; units, then a failure's text or None, out."""
    os.setpgrp()  # Ctrl-C is for the parent, whose end ends this
    end_with_parent()
    if lane.device:
        os.environ[DEVICE_VARIABLE] = lane.device
        own_device([])
    make = _on_ray if lane.on_ray else _here
    engines = Engines(profile, root)
    room = next(room for room in ROOMS if room.name == room_name)
    sending = threading.Lock()

    def send(message: tuple[str, int] | str | None) -> None:
        with sending:
            connection.send(message)

    with dg.DagsterInstance.get() as instance:
        while (keys := _next(connection)) is not None:
            try:
                make(engines, instance, room, keys, lambda name, units: send((name, units)))
                send(None)
            except AlignGuardError as error:
                send(str(error))
    leave(0)


def _next(connection: Connection) -> list[str] | None:
    try:
        return connection.recv()
    except EOFError:
        return None


def _here(
    engines: Engines, instance: dg.DagsterInstance, room: Room, keys: list[str], advanced: Advance
) -> None:
    import torch

    from pipelines.definitions import build_definitions
    from pipelines.runtime.materialize import materialize
    from pipelines.runtime.progress import listening

    torch.set_num_threads(1)  # the other processes have the other cores
    with listening(advanced):
        materialize(build_definitions(engines), instance, engines, room, keys)


def _on_ray(
    engines: Engines, instance: dg.DagsterInstance, room: Room, keys: list[str], advanced: Advance
) -> None:
    from pipelines.runtime.materialize import materialize_remotely
    from pipelines.runtime.work import expected_units

    # The step's own process is far away, so a run counts when it is done.
    units = expected_units(engines, room, keys)
    materialize_remotely(instance, engines, room, keys)
    advanced(room.name, units or 0)
