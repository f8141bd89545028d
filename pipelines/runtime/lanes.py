"""How many partitions of a room are made at once, each on which device, in runs of how many keys.

A lane is one process that makes one run after another: one a GPU of this machine, one a trainer, or
one a run on a Ray cluster. Rooms without lanes are made in the caller's own process.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from pipelines.profile import Profile
from pipelines.rooms import Room

RUNS_A_LANE = 4
"""So that a lane which is done early takes work over, and a lost one loses little."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """One process: its device (None: the profile's), or ``on_ray`` for steps on the cluster."""

    device: str | None = None
    on_ray: bool = False


def lanes(profile: Profile, room: Room) -> list[Lane]:
    """The lanes of a room; none where one process is enough."""
    if profile.ray and profile.ray.runs_room(room.name):
        return [Lane(on_ray=True)] * (profile.ray.runs if room.partitioned_by else 1)
    devices = profile.base_model.devices
    if room.name in ("images", "scores") and len(devices) > 1:
        return [Lane(device=device) for device in devices]
    if room.name == "experts" and _trainers(profile) > 1:
        chosen = devices or [None]
        return [Lane(device=chosen[i % len(chosen)]) for i in range(_trainers(profile))]
    return []


def chunks(profile: Profile, room: Room, keys: Sequence[str], num_lanes: int) -> list[list[str]]:
    """Disjoint slices of ``keys``, one run each, at most the profile's number of concepts.

    A run names its first and last key, so ``keys`` must be in the order of the partitions.
    """
    size = profile.concepts_per_run if room.partitioned_by == "concept" else 1
    if num_lanes > 1:
        size = max(1, min(size, math.ceil(len(keys) / (num_lanes * RUNS_A_LANE))))
    return [list(keys[i : i + size]) for i in range(0, len(keys), size)]


def open_pools(instance: dg.DagsterInstance, profile: Profile) -> None:
    """Give the pools as many slots as the profile has lanes; one lane leaves a limit as it is.

    A step without a slot waits, at full speed.
    """
    everywhere = profile.ray.runs if profile.ray else len(profile.base_model.devices)
    wanted = {"base_model": everywhere, "scorers": everywhere}
    wanted["trainers"] = profile.ray.runs if profile.ray else _trainers(profile)
    for pool, slots in wanted.items():
        if slots > 1:
            instance.event_log_storage.set_concurrency_slots(pool, slots)


def _trainers(profile: Profile) -> int:
    return max(profile.training.parallel, len(profile.base_model.devices))
