"""`alignguard arena`: one table of every defence, as a table, a page and JSON."""

from collections.abc import Sequence

from rich.text import Text

from alignguard_data.contracts.errors import AlignGuardError, InputMissing, first_line
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_train.arena.columns import Column
from alignguard_train.arena.fronts import fronts
from alignguard_train.arena.page import as_json, headline, write_files
from alignguard_train.arena.sources import ROOMS, current_release, read_sources
from alignguard_train.arena.table import Arena, Row, arena_of
from alignguard_train.arena.text import MISSING, interval_text, marks_of, notes_of, value_text
from alignguard_train.contracts.adapter_names import ALL_SINGLE
from alignguard_train.evaluation.behind_guards import GUARDS, guard_sources
from pipelines.cli.console import Output, table
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from pipelines.rooms import rooms_of

COLUMNS_A_TABLE = 5
"""On a terminal; the page has all columns in one table."""


def arena_command(console: Output, *, as_json_text: bool) -> int:
    """Write the arena's files and print the table; returns 0, or 1 if a summary was left out.

    Raises:
        InputMissing: no room has a summary yet.
    """
    engines = Engines(load_profile(), data_root())
    arena = build_arena(engines)
    if not arena.sources:
        rooms = ", ".join(f"{room} ({command})" for room, command in ROOMS.items())
        raise InputMissing(f"{engines.data.base} has no summary to read: none of {rooms}")
    page, numbers = write_files(engines.data, arena)
    if as_json_text:
        files = {"page": str(page), "json": str(numbers)}
        Output().json({**as_json(arena), "files": files})
    else:
        _print(console, arena)
        console.say(f"page      {page}")
        console.say(f"json      {numbers}")
    return 1 if arena.faults else 0


def build_arena(engines: Engines) -> Arena:
    """The table of a profile's rooms.

    Args:
        engines: of the profile; they load nothing that a room's fingerprint does not need.
    """
    data = engines.data
    sources = read_sources(data, _states(engines, tuple(ROOMS)))
    evaluation = next((one for one in sources if one.room == "evaluation"), None)
    sources += guard_sources(data, evaluation, _states(engines, GUARDS))
    return arena_of(
        sources,
        profile=data.profile,
        release=current_release(data),
        labels=_labels(data),
    )


def _states(engines: Engines, rooms: Sequence[str]) -> dict[str, str]:
    """State of every partition of these rooms, by its key; of a room without, by its name.

    One whose state cannot be known here, as where its weights are on another machine, says why.
    """
    states: dict[str, str] = {}
    for room in rooms_of(engines):
        for key in room.partitions(engines) if room.name in rooms else ():
            name = room.name if key == UNPARTITIONED else key
            try:
                states[name] = room.state(engines, key)
            except AlignGuardError as error:
                states[name] = f"not compared with the profile ({first_line(error)})"
    return states


def _labels(data: DataRoot) -> dict[str, str]:
    """All-single with what its training says of the safeguard."""
    try:
        made = manifests.load(data.partition("experts", ALL_SINGLE))
    except AlignGuardError:
        return {}
    if made is None or "safeguard" not in made.config:
        return {}
    weight = made.config["safeguard"]
    said = f"safeguard {weight:g}" if weight else "no safeguard"
    return {ALL_SINGLE: f"All-single, {said}"}


def _print(console: Output, arena: Arena) -> None:
    console.say(headline(arena))
    on = {name for front in fronts(arena) for name in front.on}
    parts = [
        arena.columns[i : i + COLUMNS_A_TABLE]
        for i in range(0, len(arena.columns), COLUMNS_A_TABLE)
    ]
    for columns in parts:
        shown = table("defence", *(column.title for column in columns))
        for row in arena.rows:
            name = f"{row.label} *" if row.name in on else row.label
            shown.add_row(name, *(_cell(column, row) for column in columns))
        console.print(shown)
    titles = {column.key: column.title for column in arena.columns}
    for front in fronts(arena):
        labels = [row.label for row in arena.rows if row.name in front.on]
        pair = f"{titles[front.safety]} against {titles[front.cost].lower()}"
        console.say(f"* on the front, {pair}: {', '.join(labels) or 'none'}")
        for name, why in front.left_out.items():
            console.say(f"  not compared: {arena.row(name).label} ({why})")
    for note in notes_of(arena):
        console.say(("!", "yellow"), f" {note}")
    for fault in arena.faults:
        console.say(("left out:", "red"), f" {fault}")


def _cell(column: Column, row: Row) -> Text:
    shown = row.cells.get(column.key)
    if shown is None:
        return Text(MISSING, "dim")
    text = Text(value_text(column, shown))
    text.append(f"\n{interval_text(column, shown)}\nn={shown.cell.n}", "dim")
    for mark in marks_of(shown):
        text.append(f"\n{mark}", "yellow")
    return text
