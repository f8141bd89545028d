"""Makes partitions in parallel: one process per worker slot, one Dagster run per chunk.

A process that dies loses the batch in flight. Its chunk is reported as failed, the other processes
continue with the remaining chunks, and the next `alignguard run` finishes the rest.
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
from pipelines.rooms import Room, rooms_of
from pipelines.runtime.devices import DEVICE_VARIABLE, own_device
from pipelines.runtime.exit import exit_now
from pipelines.runtime.worker_slots import WorkerSlot

Advance = Callable[[str, int], None]

_CONTEXT = mp.get_context("spawn")
_SECONDS_TO_END = 20.0


class _Worker:
    """The parent's handle of one worker process and its current chunk."""

    def __init__(self, engines: Engines, room: Room, slot: WorkerSlot) -> None:
        self.slot = slot
        self.connection, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(
            target=_serve, args=(theirs, engines.profile, engines.data.root, room.name, slot)
        )
        self.process.start()
        theirs.close()  # so the process's death is an EOF here
        self.keys: list[str] = []

    def give(self, keys: list[str]) -> None:
        """Send one chunk."""
        self.keys = keys
        with contextlib.suppress(BrokenPipeError):  # it died; recv reports it
            self.connection.send(keys)

    def exit_message(self) -> str:
        """How the process ended, and what to do."""
        self.process.join()
        code = self.process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        where = f" on {self.slot.device}" if self.slot.device else ""
        return f"its process{where} ended with {how}; saved work is kept, run again"


def make_side_by_side(
    engines: Engines,
    room: Room,
    chunks: Sequence[list[str]],
    slots: Sequence[WorkerSlot],
    advanced: Advance,
) -> dict[str, str]:
    """Make every chunk once, on the next free worker; returns failures by first key.

    Args:
        engines: the profile and the data root that each process opens for itself.
        room: what is made.
        chunks: disjoint slices of the room's partitions.
        slots: one process each, at most one per chunk.
        advanced: called with the room's name and the units done, in this thread.
    """
    waiting = deque(chunks)
    failures: dict[str, str] = {}
    workers = [_Worker(engines, room, slot) for slot in slots[: len(chunks)]]
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
                    failures[place] = worker.exit_message()
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
        for worker in busy.values():  # on interrupt; saved work is kept
            worker.process.kill()
        _end(workers)
    for keys in waiting:
        failures[f"{room.name} {keys[0]}"] = "no process was left; run again"
    return failures


def _end(workers: Sequence[_Worker]) -> None:
    """End the workers; idle ones exit when their connection closes."""
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.process.join(_SECONDS_TO_END)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _serve(
    connection: Connection, profile: Profile, root: Path, room_name: str, slot: WorkerSlot
) -> None:
    """Worker process: receives chunks; sends units, then a failure's text or None."""
    os.setpgrp()  # Ctrl-C goes to the parent, whose end ends this process
    end_with_parent()
    if slot.device:
        os.environ[DEVICE_VARIABLE] = slot.device
        own_device([])
    make = _on_ray if slot.on_ray else _here
    engines = Engines(profile, root)
    room = next(room for room in rooms_of(engines) if room.name == room_name)
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
    exit_now(0)


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

    torch.set_num_threads(1)  # the other processes use the other cores
    with listening(advanced):
        materialize(build_definitions(engines), instance, engines, room, keys)


def _on_ray(
    engines: Engines, instance: dg.DagsterInstance, room: Room, keys: list[str], advanced: Advance
) -> None:
    from pipelines.runtime.materialize import materialize_remotely
    from pipelines.runtime.work import expected_units

    # The step runs remotely, so units count when the run is done.
    units = expected_units(engines, room, keys)
    materialize_remotely(instance, engines, room, keys)
    advanced(room.name, units or 0)
