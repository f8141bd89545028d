"""Dry run: what a run would make by room, with reasons and costs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from alignguard_data.contracts.errors import InputMissing, IntegrityError
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.places import Place, map_concurrently
from alignguard_data.storage.planning import Cost, estimate, why
from alignguard_train.contracts.adapter_names import guard_of
from pipelines.resources import Engines
from pipelines.rooms import BESIDE_A_RUN, Room, ask_each, rooms_of

FOLLOWS = "follows what comes before it"
MADE_BY = {"robustness": "`alignguard attack`", "reemergence": "`alignguard reemergence`"}
"""Command of each room that no run makes."""
_WHOLE = {"index", "release"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomPlan:
    """``reasons`` maps a reason to its number of partitions."""

    room: str
    partitions: int
    to_make: list[str]
    reasons: dict[str, int]
    cost: Cost


def plan_rooms(engines: Engines) -> list[RoomPlan]:
    """Every room in order.

    A partition follows if its input will be remade; if the input comes out unchanged, the run skips
    it.
    """
    plans: list[RoomPlan] = []
    due: dict[str, set[str]] = {}
    for room in rooms_of(engines):
        keys = room.partitions(engines)
        asked = ask_each(engines, keys, partial(_reasons, engines, room, due))
        found = {key: reasons for key, reasons in asked.items() if reasons}
        due[room.name] = set(found)
        counted = Counter(reason for reasons in found.values() for reason in reasons)
        if room in BESIDE_A_RUN and found:
            counted = Counter([f"{MADE_BY[room.name]} makes it, not a run"])
        plans.append(
            RoomPlan(
                room=room.name,
                partitions=len(keys),
                to_make=list(found),
                reasons=dict(counted.most_common()),
                cost=estimate(len(found), _made(engines, room, keys)),
            )
        )
    return plans


def _reasons(engines: Engines, room: Room, due: dict[str, set[str]], key: str) -> list[str]:
    try:
        found = why(room.spec(engines, key))
    except InputMissing:
        return [FOLLOWS]
    guards = {
        "robustness": set(map(guard_of, engines.profile.robustness.targets)),
        "evaluation": set(engines.profile.evaluation.guards),
    }
    return found or ([FOLLOWS] if _follows(room, key, due, guards) else [])


def _follows(room: Room, key: str, due: dict[str, set[str]], guards: dict[str, set[str]]) -> bool:
    """Whether a partition follows one that is due; ``guards``: those that a room reads."""
    if room.partitioned_by == "concept":
        return any(key in keys for keys in due.values())
    after_training = (
        "merge", "personal", "hardening", "evaluation", "experts", "robustness", "reemergence",
    )  # fmt: skip
    if room.name in after_training:
        if due.get("guards", set()) & guards.get(room.name, set()):
            return True
        return any(
            due.get(name) for name in ("release", "cost_model", "experts", "merge", "hardening")
        )
    if room.name in ("guards", "cost_model"):
        return bool(due.get("release"))
    return room.name in _WHOLE and any(due.values())


def _made(engines: Engines, room: Room, keys: Sequence[str]) -> list[Manifest]:
    folders = [engines.data.partition(room.name, key) for key in keys]
    return [m for m in map_concurrently(engines.data.root, _readable, folders) if m]


def _readable(folder: Place) -> Manifest | None:
    try:
        return manifests.load(folder)
    except IntegrityError:
        return None
