"""Safety against cost as PNG: equal tables give equal bytes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignguard_data.contracts.figures import INK, MUTED, PALETTE, new_figure, png_bytes
from alignguard_train.arena.fronts import Front
from alignguard_train.arena.table import Arena

DPI = 130
ON, OFF = PALETTE[0], "#7F7F7F"


def front_plot(arena: Arena, front: Front) -> bytes:
    """Every compared row with its interval; the front's rows filled and joined by a step line.

    Args:
        arena: the table.
        front: of it.

    Returns:
        A PNG file.
    """
    return png_bytes(front_figure(arena, front), DPI)


def front_figure(arena: Arena, front: Front) -> Figure:
    """The figure of :func:`front_plot`.

    Args:
        arena: the table.
        front: of it.

    Returns:
        A figure with one panel.
    """
    titles = {column.key: column.title for column in arena.columns}
    rows = max(3, len(front.points))
    figure, (axes,) = new_figure(8.2, 2.2 + 0.27 * rows)
    # The front's points last, as others may lie under them.
    for name, (safety, cost) in sorted(front.points.items(), key=lambda one: one[0] in front.on):
        cell = arena.row(name).cells[front.safety].cell
        colour, filled = (ON, ON) if name in front.on else (OFF, "white")
        if cell.low is not None and cell.high is not None:
            axes.plot([cost, cost], [cell.low, cell.high], color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(
            [cost], [safety], "o", color=colour, markerfacecolor=filled, markersize=7, zorder=3
        )
    _staircase(axes, [front.points[name] for name in front.on])
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlabel(f"{titles.get(front.cost, front.cost)} (less is better)", color=INK)
    axes.set_ylabel(f"{titles.get(front.safety, front.safety)} (less is better)", color=INK)
    _names(axes, {row.name: row.label for row in arena.rows}, front)
    return figure


def _staircase(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    ordered = sorted((cost, safety) for safety, cost in points)
    if len(ordered) > 1:
        costs, safeties = zip(*ordered, strict=True)
        axes.step(costs, safeties, where="post", color=ON, linewidth=1.2, linestyle=":")


def _names(axes: Axes, labels: Mapping[str, str], front: Front) -> None:
    """Labels in a column to the right, in the order of the points, so that none covers another.

    A line ends at the left edge of its label, so that none runs over a text.
    """
    order = sorted(front.points, key=lambda name: (*front.points[name], name))
    low, high = axes.get_xlim()
    places = np.linspace(0.0, 1.0, len(order)) if len(order) > 1 else np.full(len(order), 0.5)
    for name, place in zip(order, places, strict=True):
        safety, cost = front.points[name]
        on = name in front.on
        axes.annotate(
            labels.get(name, name),
            xy=(cost, safety),
            xytext=(1.04, place),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=INK if on else MUTED,
            fontweight="bold" if on else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": "#c9c9c6",
                "linewidth": 0.7,
                "connectionstyle": "arc,angleA=180,armA=12",
                "relpos": (0.0, 0.5),
                "shrinkA": 3,
                "shrinkB": 0,
            },
            annotation_clip=False,
        )
    axes.set_xlim(low, high)
