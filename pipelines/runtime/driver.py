"""`alignguard run`: runs every room in order, missing or stale partitions only, with live progress.

Rooms run in this process, one Dagster run per chunk of partitions. Rooms with worker slots (several
GPUs, several trainers, a Ray cluster) run in worker processes, which end with this one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import dagster as dg

from alignguard_data.contracts.score_columns import check_score_columns
from pipelines.resources import Engines
from pipelines.rooms import SOUND, Room, made_by_run, rooms_of
from pipelines.runtime.materialize import RoomFailed, close_dead_runs, materialize, open_instance
from pipelines.runtime.progress import listening
from pipelines.runtime.shortfalls import failures_of_empty, warnings_of_short
from pipelines.runtime.side_by_side import make_side_by_side
from pipelines.runtime.worker_slots import chunks, open_pools, worker_slots


@dataclass(kw_only=True, slots=True)
class RunReport:
    """Result of one pass over the rooms.

    Partitions made per room, failures by partition, and warnings about short partitions.
    """

    made: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Listener:
    """Progress callbacks of the driver; the command line draws bars from them."""

    def room_started(self, room: Room, pending: Sequence[str]) -> None:
        """A room has partitions to make."""

    def advanced(self, room: str, units: int) -> None:
        """``units`` more (pairs, images, steps) of a room are done."""

    def room_ended(self, room: Room, made: int, pending: int) -> None:
        """A room made ``made`` of its ``pending`` partitions; 0 of 0: it was up to date."""


def run_rooms(engines: Engines, listener: Listener, until: str | None = None) -> RunReport:
    """Bring every room up to date; stop before the first room whose input failed.

    A concept without rows fails; the others continue through the rooms partitioned by concept.

    Args:
        engines: the profile's.
        listener: receives the progress callbacks.
        until: last room to make; None: all.

    Raises:
        StorageError: the data root or the Dagster home cannot be written.
        ConfigError: two scorers share a column.
    """
    from pipelines.definitions import build_definitions

    rooms = _wanted(engines, until)
    if any(room.name == "scores" for room in rooms):
        check_score_columns(engines.image_scorers, engines.pair_scorers)
    engines.data.prepare()
    instance = open_instance(engines.data.root)
    close_dead_runs(instance)
    open_pools(instance, engines.profile)
    definitions = build_definitions(engines)
    report = RunReport()
    emptied: set[str] = set()
    for room in rooms:
        if emptied and room.partitioned_by != "concept":
            break
        due = _pending(engines, instance, room)
        pending = [key for key in due if key not in emptied]
        failed: dict[str, str] = {}
        if due:
            listener.room_started(room, pending)
        if pending:
            failed = _make(engines, instance, definitions, room, pending, listener)
        states = room.states(engines, pending) if failed else dict.fromkeys(pending, "done")
        empty = [key for key, state in states.items() if state == "empty"]
        made = sum(state in SOUND for state in states.values())
        if empty and made + len(empty) == len(pending):
            failed = {}  # the runs failed only for these
        report.failures |= failed | failures_of_empty(engines, room, empty)
        report.made[room.name] = made
        if room.partitions(engines):  # not of guards, where the profile trains none
            listener.room_ended(room, made, len(due))
        emptied |= set(empty)
        if failed or (empty and not made):
            break
    report.warnings = warnings_of_short(engines, [r for r in rooms if r.name in report.made])
    return report


def run_room(engines: Engines, room: Room, listener: Listener) -> str:
    """Bring one room without partitions up to date; the rooms before it are not touched.

    Args:
        engines: the profile's.
        room: the room.
        listener: receives the progress callbacks.

    Returns:
        Why it failed; empty: it is up to date.

    Raises:
        StorageError: the data root or the Dagster home cannot be written.
    """
    from pipelines.definitions import build_definitions

    engines.data.prepare()
    instance = open_instance(engines.data.root)
    close_dead_runs(instance)
    open_pools(instance, engines.profile)
    pending = _pending(engines, instance, room)
    failed: dict[str, str] = {}
    if pending:
        listener.room_started(room, pending)
        failed = _make(engines, instance, build_definitions(engines), room, pending, listener)
    listener.room_ended(room, len(pending) - len(failed), len(pending))
    return "; ".join(failed.values())


def _make(
    engines: Engines,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    room: Room,
    pending: Sequence[str],
    listener: Listener,
) -> dict[str, str]:
    """Make a room's pending partitions; returns failures by the first partition of their run."""
    keys = _in_partition_order(engines, instance, room, pending)
    wanted = worker_slots(engines.profile, room)
    runs = chunks(engines.profile, room, keys, len(wanted))
    if wanted:
        return make_side_by_side(engines, room, runs, wanted, listener.advanced)
    with listening(listener.advanced):
        return _one_by_one(
            lambda keys: materialize(definitions, instance, engines, room, keys), runs, room
        )


def _wanted(engines: Engines, until: str | None) -> tuple[Room, ...]:
    if until is None:
        return made_by_run(engines)
    every = rooms_of(engines)
    return every[: [room.name for room in every].index(until) + 1]


def _pending(engines: Engines, instance: dg.DagsterInstance, room: Room) -> list[str]:
    keys = room.partitions(engines)
    pending = [key for key, state in room.states(engines, keys).items() if state != "done"]
    if room.name == "taxonomy" and not pending:
        # A new Dagster home on existing data lacks the concepts' partitions.
        known = instance.get_dynamic_partitions(f"{engines.profile.name}_concepts")
        wanted = {concept.key for concept in engines.taxonomy.concepts}
        return keys if not wanted <= set(known) else []
    return pending


def _in_partition_order(
    engines: Engines, instance: dg.DagsterInstance, room: Room, pending: Sequence[str]
) -> list[str]:
    """Keys in Dagster's order of registration, which may differ from an edited taxonomy's.

    A run names its first and last concept, so chunks must follow this order.
    """
    if room.partitioned_by != "concept":
        return list(pending)
    known = instance.get_dynamic_partitions(f"{engines.profile.name}_concepts")
    return sorted(pending, key={key: i for i, key in enumerate(known)}.__getitem__)


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
