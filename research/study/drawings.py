"""The study's plots, as PNG files next to its page."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignguard_data.contracts.figures import GRID, PALETTE
from alignguard_data.storage.shards import atomic_file
from research.study.reading import Cell, Measure, Part

Cells = Mapping[tuple[str, float], Cell]


def lines(
    cells: Cells, path: Path, *, x_label: str, panels: list[tuple[Measure, Part, str]], log: bool
) -> None:
    """One line per arm over x with intervals, one panel per measure."""
    figure, axes = _panels(len(panels), 3.4)
    for axis, (measure, part, title) in zip(axes, panels, strict=True):
        for number, arm in enumerate(dict.fromkeys(arm for arm, _ in cells)):
            points = [(x, cells[arm, x].share(measure, part)) for a, x in cells if a == arm]
            drawn = [(x, found) for x, found in points if found]
            if not drawn:
                continue
            colour = PALETTE[number % len(PALETTE)]
            xs, shares = [x for x, _ in drawn], [found for _, found in drawn]
            axis.plot(xs, [s.value for s in shares], marker="o", ms=4, color=colour, label=arm)
            low, high = [s.low for s in shares], [s.high for s in shares]
            axis.fill_between(xs, low, high, color=colour, alpha=0.12, linewidth=0)
        _style(axis, title)
        axis.set_xlabel(x_label)
        if log:
            axis.set_xscale("log")
            axis.minorticks_off()
            ticks = sorted({x for _, x in cells})
            axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
    handles, labels = axes[0].get_legend_handles_labels()
    columns = min(len(labels), 4)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    _save(figure, path)


def bars(cells: Cells, path: Path, *, panels: list[tuple[Measure, Part, str]]) -> None:
    """One row per arm, a dot with interval for each x; for unordered arms."""
    arms = list(dict.fromkeys(arm for arm, _ in cells))
    xs = sorted({x for _, x in cells})
    figure, axes = _panels(len(panels), 1.2 + 0.26 * len(arms))
    for axis, (measure, part, title) in zip(axes, panels, strict=True):
        for number, x in enumerate(xs):
            offset = (number - (len(xs) - 1) / 2) * 0.28
            for row, arm in enumerate(arms):
                found = cells[arm, x].share(measure, part) if (arm, x) in cells else None
                if found is None:
                    continue
                colour = PALETTE[number]
                axis.plot([found.low, found.high], [row + offset] * 2, color=colour, linewidth=1.4)
                named = f"{x:.0f} steps an expert" if row == 0 else None
                axis.plot([found.value], [row + offset], "o", ms=4, color=colour, label=named)
        _style(axis, title, vertical=False)
        axis.set_yticks(range(len(arms)), arms if axis is axes[0] else [""] * len(arms))
        axis.invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)


def _panels(number: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(1.6 + 3.4 * number, height), layout="constrained")
    return figure, list(figure.subplots(1, number, squeeze=False)[0])


def _style(axis: Axes, title: str, *, vertical: bool = True) -> None:
    axis.set_title(title, loc="left", fontsize=10)
    (axis.set_ylim if vertical else axis.set_xlim)(-0.03, 1.03)
    axis.grid(color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
