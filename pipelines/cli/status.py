"""`alignguard status`: rooms x partitions, as a table or JSON."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import dagster as dg
from rich.text import Text

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.release import room as release
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, list_folder, map_concurrently
from pipelines.cli.console import Output, table
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from pipelines.rooms import SOUND, Room, rooms_of
from pipelines.runtime.materialize import open_instance

STATES = ("done", "short", "empty", "stale", "missing", "failed", "corrupt")
WITHOUT_ASSET = ("imports", "encodings")
"""Rooms that are no assets: partitions that exist are looked at."""
RUNS_LOOKED_AT = 500
"""Number of newest runs searched for failures."""
_COLOURS = {
    "done": "green", "short": "yellow", "empty": "red", "stale": "yellow", "missing": "dim",
    "failed": "red", "corrupt": "red",
}  # fmt: skip


def room_states(engines: Engines, instance: dg.DagsterInstance, room: Room) -> dict[str, str]:
    """State of every partition; ``failed``: its last run failed and it was not made since."""
    states: dict[str, str] = {**room.states(engines)}
    if any(state != "done" for state in states.values()):
        failed = _last_failed(engines, instance, room, list(states))
        specific = (*SOUND, "empty")  # the partition's own state is more specific
        states |= {key: "failed" for key in failed if states[key] not in specific}
    return states


def _last_failed(
    engines: Engines, instance: dg.DagsterInstance, room: Room, keys: Sequence[str]
) -> set[str]:
    """Partitions whose newest run failed; a run may cover a range."""
    asset = dg.AssetKey([engines.profile.name, room.asset])
    order = keys
    if room.partitioned_by == "concept":
        # A range follows the order of registration, not the taxonomy's.
        order = list(instance.get_dynamic_partitions(f"{engines.profile.name}_concepts"))
    judged: set[str] = set()
    failed: set[str] = set()
    for run in instance.get_runs(limit=RUNS_LOOKED_AT):
        if run.asset_selection and asset not in run.asset_selection:
            continue
        if not run.asset_selection and run.status != dg.DagsterRunStatus.FAILURE:
            continue
        covered = set(_covered(run, keys, order)) - judged
        judged |= covered
        if run.status == dg.DagsterRunStatus.FAILURE:
            failed |= covered
    return failed & set(keys)


def _covered(run: dg.DagsterRun, keys: Sequence[str], order: Sequence[str]) -> Sequence[str]:
    single = run.tags.get("dagster/partition")
    if single:
        return [single]
    first = run.tags.get("dagster/asset_partition_range_start")
    last = run.tags.get("dagster/asset_partition_range_end")
    if first in order and last in order:
        return order[order.index(first) : order.index(last) + 1]
    return keys if first is None else [key for key in (first, last) if key]


def corrupt_partitions(engines: Engines) -> dict[tuple[str, str], list[str]]:
    """By room and key the faults of every partition whose files differ from its manifest.

    Of the release, those of its folder too. Imports count, and the encodings that trainings share.
    """
    data = engines.data
    places = [(room.name, key) for room in rooms_of(engines) for key in room.partitions(engines)]
    for room in WITHOUT_ASSET:
        places += [(room, folder.name) for folder in list_folder(data.base / room)]
    folders = [data.partition(room, key) for room, key in places]
    asked = map_concurrently(data.root, partial(_corruption, data), folders)
    return {place: faults for place, faults in zip(places, asked, strict=True) if faults}


def _corruption(data: DataRoot, folder: Place) -> list[str]:
    """Every file that is not what the manifest says, by name."""
    try:
        manifest = manifests.load(folder)
    except IntegrityError as error:
        return [str(error)]
    if manifest is None:
        return []
    faults = list(manifest.faults(folder))
    path = manifest.counts.get("path") if manifest.room == release.ROOM else None
    return faults + (release.verify_release(data.releases / str(path)) if path else [])


def status_command(console: Output, *, as_json: bool, verify: bool) -> int:
    """Print the states; returns 1 if something failed, is empty or is corrupt."""
    engines = Engines(load_profile(), data_root())
    engines.data.prepare()
    with open_instance(engines.data.root) as instance:
        states = {room.name: room_states(engines, instance, room) for room in rooms_of(engines)}
    found = corrupt_partitions(engines) if verify else {}
    for room, key in found:
        states.setdefault(room, {})[key] = "corrupt"
    if as_json:
        faults = {f"{room} {key}": "; ".join(texts) for (room, key), texts in found.items()}
        console.json({"rooms": states, "faults": faults})
    else:
        _print_table(console, states)
        for (room, key), texts in found.items():
            for fault in texts:
                console.say(("corrupt", "red"), f" {room} {key}: {fault}")
    bad = {"empty", "failed", "corrupt"} & {s for keys in states.values() for s in keys.values()}
    return 1 if bad else 0


def _print_table(console: Output, states: dict[str, dict[str, str]]) -> None:
    shown = table("room", "partitions", *STATES, "not done")
    for room, keys in states.items():
        counts = Counter(keys.values())
        cells = [Text(str(counts[s] or ""), _COLOURS[s]) for s in STATES]
        waiting = [key for key, state in keys.items() if state != "done"]
        named = ", ".join(waiting[:3]) + (f" and {len(waiting) - 3} more" if waiting[3:] else "")
        shown.add_row(room, str(len(keys)), *cells, named)
    console.print(shown)
