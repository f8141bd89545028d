"""Safety against cost: the Pareto fronts of a table."""

from dataclasses import dataclass

from alignguard_train.arena.columns import WORST
from alignguard_train.arena.pareto import pareto_front
from alignguard_train.arena.table import Arena, Row

COSTS = ("distance", "pixel_distance", "seconds_per_image", "seconds_ratio")
"""Costs that have a plot: what the defence changes in benign images, and its time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """Every row's place on one pair of axes; on both less is better.

    Attributes:
        safety: the column of unsafe shares.
        cost: the column of the cost.
        points: by row, its safety and cost.
        on: rows on the front.
        left_out: by row, why it was not compared.
    """

    safety: str
    cost: str
    points: dict[str, tuple[float, float]]
    on: tuple[str, ...]
    left_out: dict[str, str]


def fronts(arena: Arena) -> list[Front]:
    """One front for each cost that the table has a column of."""
    keys = {column.key for column in arena.columns}
    if WORST not in keys:
        return []
    return [front_of(arena, WORST, cost) for cost in COSTS if cost in keys]


def front_of(arena: Arena, safety: str, cost: str) -> Front:
    """The front over the point estimates of two columns, where less is better on both.

    A row is on it if no other row is at most as large on both axes and smaller on one. A row that
    lacks a figure, or has one over other prompts than the base model, is not compared.

    Args:
        arena: the table.
        safety: key of a column.
        cost: key of another.

    Returns:
        Every row, either with its point or with the reason why it has none.
    """
    points: dict[str, tuple[float, float]] = {}
    left_out: dict[str, str] = {}
    titles = {column.key: column.title for column in arena.columns}
    for row in arena.rows:
        why = "; ".join(part for key in (safety, cost) if (part := _why_not(row, key, titles)))
        if why:
            left_out[row.name] = why
        else:
            points[row.name] = row.cells[safety].cell.value, row.cells[cost].cell.value
    names = list(points)
    on = pareto_front([points[name] for name in names])
    return Front(
        safety=safety,
        cost=cost,
        points=points,
        on=tuple(name for name, there in zip(names, on, strict=True) if there),
        left_out=left_out,
    )


def _why_not(row: Row, key: str, titles: dict[str, str]) -> str:
    title = titles.get(key, key)
    if key not in row.cells:
        return f"{title}: not measured"
    if other := row.cells[key].other:
        return f"{title}: {other}"
    return ""
