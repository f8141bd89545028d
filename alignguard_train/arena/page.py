"""The arena's files: ``arena.json`` and ``arena.html``, a page that needs nothing from elsewhere.

Neither holds an image of the model or a prompt.
"""

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place
from alignguard_data.storage.shards import write_bytes
from alignguard_train.arena.columns import WORST, Column
from alignguard_train.arena.fronts import Front, fronts
from alignguard_train.arena.plots import front_plot
from alignguard_train.arena.table import Arena, Row, Shown
from alignguard_train.arena.text import MISSING, interval_text, marks_of, notes_of, value_text
from alignguard_train.contracts.pages import templates

FOLDER = "arena"
PAGE, JSON = "arena.html", "arena.json"
FORMAT = 1
"""Of ``arena.json``: raise it when a field changes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownCell:
    """One cell of the page; ``order`` is what it sorts by, empty if it was not measured."""

    value: str
    order: str
    interval: str = ""
    n: int = 0
    marks: Sequence[str] = ()
    where: str = ""


def write_files(data: DataRoot, arena: Arena) -> tuple[Place, Place]:
    """Write the page and the JSON beside the rooms.

    Args:
        data: the data root.
        arena: the table.

    Returns:
        Both files.
    """
    folder = data.base / FOLDER
    page, numbers = folder / PAGE, folder / JSON
    write_bytes(page, html(arena).encode())
    text = json.dumps(as_json(arena), indent=2, allow_nan=False)
    write_bytes(numbers, (text + "\n").encode())
    return page, numbers


def as_json(arena: Arena) -> dict[str, Any]:
    """The table with every cell's n, prompts, release and marks; what was not measured says so."""
    return {
        "format": FORMAT,
        "profile": arena.profile,
        "release": arena.release,
        "columns": [asdict(column) for column in arena.columns],
        "rows": [_row(arena, row) for row in arena.rows],
        "fronts": [asdict(front) for front in fronts(arena)],
        "sources": [
            {"room": s.room, "file": s.file, "release": s.release, "stale": s.stale}
            for s in arena.sources
            if not s.fault
        ],
        "faults": list(arena.faults),
    }


def _row(arena: Arena, row: Row) -> dict[str, Any]:
    cells = {column.key: _cell(row.cells.get(column.key)) for column in arena.columns}
    return {"name": row.name, "label": row.label, "marks": list(row.marks), "cells": cells}


def _cell(shown: Shown | None) -> dict[str, Any]:
    if shown is None:
        return {"state": MISSING}
    cell = shown.cell
    numbers = {name: getattr(cell, name) for name in ("value", "low", "high", "n", "unit", "over")}
    return {
        "state": "stale" if shown.stale else "measured",
        **numbers,
        "release": shown.release,
        "room": shown.room,
        "stale": shown.stale,
        "other_basis": shown.other,
    }


def html(arena: Arena) -> str:
    """The page; byte-identical for an equal table."""
    found = fronts(arena)
    return (
        templates("alignguard_train.arena")
        .get_template("arena.html.j2")
        .render(
            arena=arena,
            headline=headline(arena),
            **table_parts(arena, found),
            plots=[_plot(arena, front) for front in found],
            basis=_bases(arena),
        )
    )


def table_parts(arena: Arena, found: Sequence[Front]) -> dict[str, Any]:
    """The data of the sortable table's template."""
    titles = {column.key: column.title for column in arena.columns}
    return {
        "rows": [
            {
                "label": row.label,
                "fronts": [_short(front.cost, titles) for front in found if row.name in front.on],
                "marks": row.marks,
                "cells": [
                    shown_cell(column, row.cells.get(column.key)) for column in arena.columns
                ],
            }
            for row in arena.rows
        ],
        "notes": notes_of(arena),
        "columns": arena.columns,
        "missing": MISSING,
    }


def shown_cell(column: Column, shown: Shown | None) -> ShownCell:
    """A cell as the page shows it."""
    if shown is None:
        return ShownCell(value=MISSING, order="")
    return ShownCell(
        value=value_text(column, shown),
        order=repr(float(shown.cell.value)),
        interval=interval_text(column, shown),
        n=shown.cell.n,
        marks=marks_of(shown),
        where=f"{shown.cell.over}; {shown.release or 'release not recorded'}; {shown.room}",
    )


def headline(arena: Arena) -> str:
    """The defences with the least worst share, among those that were measured in full."""
    measured = [row for row in arena.rows if WORST in row.cells]
    if not measured:
        return "No defence was measured in every unsafe column, so none is called the safest."
    least = min(row.cells[WORST].cell.value for row in measured)
    best = [row for row in measured if row.cells[WORST].cell.value == least]
    column = next(column for column in arena.columns if column.key == WORST)
    named = ", ".join(row.label for row in best)
    intervals = list(dict.fromkeys(interval_text(column, row.cells[WORST]) for row in best))
    return (
        f"Least unsafe at its worst, {value_text(column, best[0].cells[WORST])} "
        f"{' or '.join(intervals)}: {named}. {len(measured)} of {len(arena.rows)} defences were "
        "measured in every unsafe column."
    )


def _plot(arena: Arena, front: Front) -> dict[str, Any]:
    titles = {column.key: column.title for column in arena.columns}
    labels = {row.name: row.label for row in arena.rows}
    png = base64.b64encode(front_plot(arena, front)).decode() if front.points else ""
    on = ", ".join(labels[name] for name in front.on) or "none"
    return {
        "title": f"{titles[front.safety]} against {titles[front.cost].lower()}",
        "uri": f"data:image/png;base64,{png}" if png else "",
        "on": on,
        "left_out": [(labels[name], why) for name, why in front.left_out.items()],
        "stale": any(
            arena.row(name).cells[key].stale
            for name in front.points
            for key in (front.safety, front.cost)
        ),
    }


def _short(cost: str, titles: Mapping[str, str]) -> str:
    return titles.get(cost, cost).lower()


def _bases(arena: Arena) -> list[dict[str, str]]:
    """What most cells of each column are over; the cells that differ are in the notes."""
    found = []
    for column in arena.columns:
        own = [row.cells[column.key] for row in arena.rows if column.key in row.cells]
        if not own or column.key == WORST:
            continue
        usual = Counter(
            (s.cell.over, s.release, s.room) for s in own if not s.other or len(own) == 1
        )
        (over, release, room), _ = usual.most_common(1)[0]
        counts = sorted({s.cell.n for s in own if not s.other})
        n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        found.append(
            {
                "title": column.title,
                "note": column.note,
                "better": column.better,
                "over": f"{n} {own[0].cell.unit}: {over}",
                "release": release or "not recorded",
                "room": room,
            }
        )
    return found
