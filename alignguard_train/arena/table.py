"""One table of every defence, from the figures of several rooms.

Figures over other prompts, another number of them or another release are never compared silently:
the cells of a column that differ in this from the base model's say so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from alignguard_train.arena.cells import Cell
from alignguard_train.arena.columns import WORST, Column, column_of, place_of
from alignguard_train.arena.sources import Source
from alignguard_train.contracts.adapter_names import (
    ALL_SINGLE,
    BASE,
    EXPERT,
    MERGE,
    MERGED,
    PEER,
    label,
)

GUARD = "guard:"
HARDENED = "hardened"
TIMED = ("seconds_per_image", "seconds_ratio", "training_seconds")
"""Columns in which n is no number of prompts."""
_KINDS = (BASE, MERGED, MERGE, ALL_SINGLE, HARDENED, PEER, GUARD)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A cell in the table.

    Attributes:
        cell: the figure.
        room: where it is from.
        release: that it was measured on; empty: not recorded.
        stale: why it is stale; empty: it is not, as far as is known.
        other: how its basis differs from that of the column's reference; empty: it does not.
    """

    cell: Cell
    room: str
    release: str
    stale: str = ""
    other: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One defence; a column without a cell was not measured."""

    name: str
    label: str
    cells: Mapping[str, Shown]
    marks: tuple[str, ...] = ()
    """What must be said of its releases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arena:
    """The table of defences."""

    profile: str
    """Name of the profile."""
    release: str
    """Version of the newest release; empty without one."""
    columns: tuple[Column, ...]
    """Columns, in the order shown."""
    rows: tuple[Row, ...]
    """A row for each defence; the base model is the first."""
    faults: tuple[str, ...] = ()
    """Summaries that could not be read, one line each."""
    sources: tuple[Source, ...] = ()
    """The summaries that the cells come from."""

    def row(self, name: str) -> Row:
        """One defence.

        Args:
            name: as in an evaluation.

        Returns:
            Its row.

        Raises:
            KeyError: it is not in the table.
        """
        return {row.name: row for row in self.rows}[name]


def arena_of(
    sources: Sequence[Source],
    *,
    profile: str,
    release: str = "",
    labels: Mapping[str, str] | None = None,
    always: Sequence[str] = (BASE, MERGED, ALL_SINGLE),
) -> Arena:
    """Build the table.

    Args:
        sources: of :func:`alignguard_train.arena.sources.read_sources`, the preferred first: where
            two rooms measured the same cell, it is the first one's.
        profile: its name.
        release: folder name of the newest release.
        labels: of defences whose name does not say enough.
        always: defences that have a row even if nothing was measured.

    Returns:
        Rows and columns in a fixed order.
    """
    found = _chosen(sources)
    names = list(dict.fromkeys([*always, *(defence for defence, _ in found)]))
    keys = sorted(dict.fromkeys(column for _, column in found), key=place_of)
    columns = [column_of(key) for key in keys]
    rows = [
        _row(
            name,
            (labels or {}).get(name) or label_of(name),
            {k: found[name, k] for k in keys if (name, k) in found},
        )
        for name in sorted(names, key=_order)
    ]
    rows = _marked(_with_worst(rows, columns), release)
    if any(column.unsafe for column in columns):
        columns.insert(0, column_of(WORST))
    return Arena(
        profile=profile,
        release=release,
        columns=tuple(columns),
        rows=tuple(rows),
        faults=tuple(source.fault for source in sources if source.fault),
        sources=tuple(sources),
    )


def label_of(name: str) -> str:
    """A defence's label: of adapters and peers as in a report."""
    if name.startswith(GUARD):
        return f"Guard {name.removeprefix(GUARD)}"
    if name.startswith(HARDENED):
        return f"Hardened, round {name.removeprefix(HARDENED).strip(' :-')}".removesuffix(
            ", round "
        )
    return label(name)


def _chosen(sources: Iterable[Source]) -> dict[tuple[str, str], Shown]:
    """Cells by defence and column; single experts are parts of a defence, not one."""
    found: dict[tuple[str, str], Shown] = {}
    for source in sources:
        for cell in source.cells:
            if not cell.defence.startswith(EXPERT):
                shown = Shown(
                    cell=cell, room=source.room, release=source.release, stale=source.stale
                )
                found.setdefault((cell.defence, cell.column), shown)
    return found


def _order(name: str) -> tuple[int, str]:
    kind = next((i for i, start in enumerate(_KINDS) if name.startswith(start)), len(_KINDS))
    if name == MERGED:
        return _KINDS.index(MERGED), ""
    return kind, name


def _row(name: str, shown: str, cells: Mapping[str, Shown]) -> Row:
    return Row(name=name, label=shown, cells=cells)


def _with_worst(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    unsafe = [column.key for column in columns if column.unsafe]
    made = []
    for row in rows:
        own = [row.cells[key] for key in unsafe if key in row.cells]
        if unsafe and len(own) == len(unsafe):
            worst = max(own, key=lambda shown: shown.cell.value)
            title = column_of(worst.cell.column).title
            cell = replace(worst.cell, column=WORST, over=f"{title}: {worst.cell.over}")
            stale = next((shown.stale for shown in own if shown.stale), "")
            row = replace(row, cells={WORST: replace(worst, cell=cell, stale=stale), **row.cells})
        made.append(row)
    return made


def _marked(rows: Sequence[Row], release: str) -> list[Row]:
    """Mark cells with another basis than the column's reference, and rows of several releases."""
    keys = dict.fromkeys(key for row in rows for key in row.cells if key != WORST)
    references = {key: _reference(key, rows) for key in keys}
    return [_marked_row(row, references, release) for row in rows]


_UNKNOWN = "a release that is not recorded"
Basis = tuple[str, int, str]
"""What a cell is over, how many, and the release."""


def _basis(key: str, shown: Shown) -> Basis:
    n = 0 if key in TIMED else shown.cell.n
    return shown.cell.over, n, shown.release


def _reference(key: str, rows: Sequence[Row]) -> Basis:
    """The base model's basis, or else the most frequent one."""
    found = [(row.name, _basis(key, row.cells[key])) for row in rows if key in row.cells]
    own = [basis for name, basis in found if name == BASE]
    return own[0] if own else Counter(basis for _, basis in found).most_common(1)[0][0]


def _marked_row(row: Row, references: Mapping[str, Basis], release: str) -> Row:
    cells = {
        key: replace(shown, other=_difference(_basis(key, shown), references[key]))
        if key in references
        else shown
        for key, shown in row.cells.items()
    }
    if WORST in cells:
        parts = [cells[key].other for key in cells if column_of(key).unsafe]
        cells[WORST] = replace(cells[WORST], other="; ".join(dict.fromkeys(p for p in parts if p)))
    marks = []
    releases = sorted({shown.release for shown in cells.values()} - {""})
    if len(releases) > 1:
        marks.append(f"measured over several releases: {', '.join(releases)}")
    elif releases and release and releases[0] != release:
        marks.append(f"measured on {releases[0]}, not on the newest release")
    if any(not shown.release for shown in cells.values()):
        rooms = sorted({shown.room for shown in cells.values() if not shown.release})
        marks.append(f"release not recorded: {', '.join(rooms)}")
    return replace(row, cells=cells, marks=tuple(marks))


def _difference(own: Basis, reference: Basis) -> str:
    said = []
    if own[0] != reference[0]:
        said.append(f"over {own[0]}, the base model's over {reference[0]}")
    if own[1] != reference[1]:
        said.append(f"n = {own[1]}, the base model's {reference[1]}")
    if own[2] != reference[2]:
        said.append(f"on {own[2] or _UNKNOWN}, the base model's on {reference[2] or _UNKNOWN}")
    return "; ".join(said)
