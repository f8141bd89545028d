"""Worker slots of a room: the processes that make its partitions, their devices and chunks.

A slot is one process that makes runs in sequence: one per GPU, per trainer, or per concurrent run
on a Ray cluster. Rooms without slots are made in the caller's process.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from pipelines.profile import Profile
from pipelines.rooms import Room

RUNS_PER_SLOT = 4
"""Several, so a fast slot takes over work and a lost process loses little."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSlot:
    """One process: its device (None: the profile's), or ``on_ray`` for steps on the cluster."""

    device: str | None = None
    on_ray: bool = False


def worker_slots(profile: Profile, room: Room) -> list[WorkerSlot]:
    """The worker slots of a room; none if one process is enough."""
    if profile.ray and profile.ray.runs_room(room.name):
        return [WorkerSlot(on_ray=True)] * (profile.ray.runs if room.partitioned_by else 1)
    devices = profile.base_model.devices
    if room.name in ("images", "scores") and len(devices) > 1:
        return [WorkerSlot(device=device) for device in devices]
    if room.name == "experts" and _trainers(profile) > 1:
        chosen = devices or [None]
        return [WorkerSlot(device=chosen[i % len(chosen)]) for i in range(_trainers(profile))]
    return []


def chunks(profile: Profile, room: Room, keys: Sequence[str], num_slots: int) -> list[list[str]]:
    """Disjoint slices of ``keys``, one run each, of at most ``concepts_per_run`` keys.

    A run names its first and last key, so ``keys`` must be in the order of the partitions.
    """
    size = profile.concepts_per_run if room.partitioned_by == "concept" else 1
    if num_slots > 1:
        size = max(1, min(size, math.ceil(len(keys) / (num_slots * RUNS_PER_SLOT))))
    return [list(keys[i : i + size]) for i in range(0, len(keys), size)]


def open_pools(instance: dg.DagsterInstance, profile: Profile) -> None:
    """Set each pool's limit to the profile's number of worker slots; one slot keeps the limit.

    A step without a pool slot busy-waits.
    """
    everywhere = profile.ray.runs if profile.ray else len(profile.base_model.devices)
    wanted = {"base_model": everywhere, "scorers": everywhere}
    wanted["trainers"] = profile.ray.runs if profile.ray else _trainers(profile)
    for pool, slots in wanted.items():
        if slots > 1:
            instance.event_log_storage.set_concurrency_slots(pool, slots)


def _trainers(profile: Profile) -> int:
    return max(profile.training.parallel, len(profile.base_model.devices))
