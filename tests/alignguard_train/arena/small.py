"""Small blocks and tables of figures, by hand."""

import json
from typing import Any

from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_train.arena.cells import Cell, cells_block
from alignguard_train.arena.sources import Source
from alignguard_train.arena.table import Arena, arena_of

RELEASE = "coprov2-test-v0.1.0"


def cell(defence: str, column: str, value: float, **changes: Any) -> Cell:
    """A figure over 100 prompts."""
    given = {"low": max(0.0, value - 0.1), "high": value + 0.1, "n": 100, "unit": "prompts"}
    over = {"over": f"prompts of {column}"}
    return Cell(
        **{"defence": defence, "column": column, "value": value, **given, **over, **changes}
    )


def source(*cells: Cell, room: str = "evaluation", release: str = RELEASE, **more: str) -> Source:
    """A room's figures."""
    return Source(room=room, file=f"{room}/summary.json", cells=cells, release=release, **more)


def table(*sources: Source, always: tuple[str, ...] = ()) -> Arena:
    """Their table."""
    return arena_of(sources, profile="test", release=RELEASE, always=always)


def write_room(data: DataRoot, room: str, counts: dict[str, Any]) -> str:
    """A finished partition; returns its content id."""
    import pyarrow as pa

    made = PartitionSpec(folder=data.partition(room), room=room, key="all", config={}, inputs={})
    with open_partition(made) as work:
        manifest = work.finish(tables={"rows": pa.table({"x": [room]})}, counts=counts)
    return manifest.content_id


def write_summary(data: DataRoot, room: str, *cells: Cell, **changes: Any) -> Any:
    """A room with its summary, as a room leaves both; returns the file."""
    made_of = write_room(data, room, {})
    block = {**cells_block(cells, release=RELEASE, made_of=made_of), **changes}
    path = data.base / room / "summary.json"
    path.write_text(json.dumps({"arena": block}))
    return path
