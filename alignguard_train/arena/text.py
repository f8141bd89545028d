"""Figures of the table as text, the same on page, console and docs."""

from alignguard_train.arena.columns import WORST, Column
from alignguard_train.arena.table import Arena, Shown

MISSING = "not measured"


def value_text(column: Column, shown: Shown | None) -> str:
    """The figure without its interval."""
    if shown is None:
        return MISSING
    value = shown.cell.value
    if column.kind == "share":
        return f"{100 * value:.1f} %"
    if column.kind == "ratio":
        return f"{value:.2f} x"
    return f"{value:.4f}" if column.kind == "number" else f"{value:.3g}"


def interval_text(column: Column, shown: Shown) -> str:
    """The 95 % interval in brackets; what there is instead, where there is none."""
    low, high = shown.cell.low, shown.cell.high
    if low is None or high is None or (column.kind in ("seconds", "ratio") and low == high):
        return "no interval"
    if column.kind in ("seconds", "ratio"):
        return f"[{low:.3g}, {high:.3g}]"
    if column.kind == "share":
        return f"[{100 * low:.1f}, {100 * high:.1f}]"
    return f"[{low:.4f}, {high:.4f}]"


def cell_text(column: Column, shown: Shown | None) -> str:
    """Figure, interval, n and marks in one line."""
    if shown is None:
        return MISSING
    said = f"{value_text(column, shown)} {interval_text(column, shown)} n={shown.cell.n}"
    return said + "".join(f" ({mark})" for mark in marks_of(shown))


def marks_of(shown: Shown) -> list[str]:
    """Short marks of a cell."""
    return ["stale"] * bool(shown.stale) + ["other basis"] * bool(shown.other)


def notes_of(arena: Arena) -> list[str]:
    """What a reader must know of the table, each thing once.

    Stale rooms with the reason, rows of other releases, and every cell with another basis.
    """
    titles = {column.key: column.title for column in arena.columns}
    found = [f"{one.room} is stale: {one.stale}" for one in arena.sources if one.stale]
    marked: dict[str, list[str]] = {}
    for row in arena.rows:
        for mark in row.marks:
            marked.setdefault(mark, []).append(row.label)
    found += [f"{mark} ({', '.join(labels)})" for mark, labels in marked.items()]
    for row in arena.rows:
        found += [
            f"{row.label}, {titles.get(key, key)}: {shown.other}"
            for key, shown in row.cells.items()
            if shown.other and key != WORST
        ]
    return found
