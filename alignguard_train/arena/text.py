"""Figures of the table as text, the same on page, console and docs."""

from alignguard_train.arena.columns import Column
from alignguard_train.arena.table import Row, Shown

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


def notes_of(row: Row, titles: dict[str, str]) -> list[str]:
    """What a reader must know of a row: its marks, and every cell with another basis."""
    found = [f"{row.label}: {mark}" for mark in row.marks]
    for key, shown in row.cells.items():
        if shown.other:
            found.append(f"{row.label}, {titles.get(key, key)}: {shown.other}")
    return found
