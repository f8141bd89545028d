"""`alignguard status`: rooms x partitions, as a table or JSON."""

import warnings
from collections import Counter

import dagster as dg
from rich.console import Console
from rich.table import Table

from alignguard_data import manifest as manifests
from alignguard_data.errors import IntegrityError
from pipelines.materialize import open_instance
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from pipelines.rooms import ROOMS, Room

STATES = ("done", "stale", "missing", "failed", "corrupt")
_COLOURS = {"done": "green", "stale": "yellow", "missing": "dim", "failed": "red", "corrupt": "red"}


def room_states(engines: Engines, instance: dg.DagsterInstance, room: Room) -> dict[str, str]:
    """State of every partition; ``failed`` is what Dagster saw fail and nobody has made since."""
    states: dict[str, str] = {key: room.state(engines, key) for key in room.partitions(engines)}
    unfinished = [key for key, state in states.items() if state != "done"]
    asset = dg.AssetKey([engines.profile.name, room.asset])
    for key in unfinished:
        if _last_run_failed(instance, asset, key if room.partitioned_by else None):
            states[key] = "failed"
    return states


def _last_run_failed(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str | None
) -> bool:
    """Whether the newest run that planned this asset (and partition) ended in failure."""
    keep = None if partition is None else [partition]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a run over many partitions is not found
        planned = instance.get_event_records(
            dg.EventRecordsFilter(
                event_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
                asset_key=asset,
                asset_partitions=keep,
            ),
            limit=1,
        )
    if not planned:
        return False
    run = instance.get_run_by_id(planned[0].run_id)
    return run is not None and run.status == dg.DagsterRunStatus.FAILURE


def corrupt_partitions(engines: Engines) -> dict[str, str]:
    """Every partition whose files differ from its manifest: place -> the fault."""
    faults = {}
    for room in ROOMS:
        for key in room.partitions(engines):
            folder = engines.data.partition(room.name, key)
            try:
                manifest = manifests.load(folder)
                if manifest is not None:
                    manifest.verify(folder)
            except IntegrityError as error:
                faults[f"{room.name} {key}"] = str(error)
    return faults


def status_command(console: Console, *, as_json: bool, verify: bool) -> int:
    """Print the states; exit code 1 when something failed or is corrupt."""
    engines = Engines(load_profile(), data_root())
    engines.data.prepare()
    with open_instance(engines.data.root) as instance:
        states = {room.name: room_states(engines, instance, room) for room in ROOMS}
    faults = corrupt_partitions(engines) if verify else {}
    for place in faults:
        room, key = place.split(" ", 1)
        states[room][key] = "corrupt"
    if as_json:
        console.print_json(data={"rooms": states, "faults": faults})
    else:
        _print_table(console, states)
        for place, fault in faults.items():
            console.print(f"[red]corrupt[/] {place}: {fault}", highlight=False, soft_wrap=True)
    bad = {"failed", "corrupt"} & {s for keys in states.values() for s in keys.values()}
    return 1 if bad else 0


def _print_table(console: Console, states: dict[str, dict[str, str]]) -> None:
    table = Table("room", "partitions", *STATES, "not done")
    for room, keys in states.items():
        counts = Counter(keys.values())
        cells = [f"[{_COLOURS[s]}]{counts[s]}[/]" if counts[s] else "" for s in STATES]
        waiting = [key for key, state in keys.items() if state != "done"]
        named = ", ".join(waiting[:3]) + (f" and {len(waiting) - 3} more" if waiting[3:] else "")
        table.add_row(room, str(len(keys)), *cells, named)
    console.print(table)
