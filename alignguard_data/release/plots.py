"""The card's plots: pairs by category and split, the funnel, and scores by side with thresholds.

They show statistics, never an image of the data. Equal rows give equal PNG bytes. Colours are the
colour-blind-safe palette of Okabe and Ito.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alignguard_data.audit.funnel import KEPT
from alignguard_data.contracts.figures import INK, new_figure, png_bytes
from alignguard_data.contracts.score_columns import score_column

BINS = 40
SAFE, UNSAFE, NEUTRAL = "#0072B2", "#D55E00", "#7F7F7F"
LOST = (
    "#D55E00",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#009E73",
    "#8C6D31",
    "#F0E442",
    "#000000",
    "#AA4499",
    "#999933",
    "#882255",
    "#117733",
    "#DDCC77",
    "#9E9AC8",
    "#BCBDBD",
    "#6B6B6B",
    "#FDAE6B",
    "#A1D99B",
)
"""Okabe and Ito's palette, extended for a funnel with many reasons."""
_DPI = 110
_PANELS = 3  # in a row
MAX_PANELS = 12
"""Most scores drawn; a classifier with a score per class would fill pages."""


def card_plots(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """The card's plots.

    Args:
        folder: of the release, with its data files.
        manifest: of the release.

    Returns:
        PNG by file name; no plot of scores for a release without scores.
    """
    plots = {
        "plots/pairs.png": pairs_plot(manifest["by_category"]),
        "plots/funnel.png": funnel_plot(manifest["funnel"]),
    }
    if manifest["score_columns"]:
        files = sorted((folder / "data").glob("*.parquet"))
        counts = count_scores(files, manifest["score_columns"])
        plots["plots/scores.png"] = scores_plot(counts, manifest["flags"])
    return plots


def pairs_plot(by_category: Mapping[str, Mapping[str, int]]) -> bytes:
    """One bar per category: train pairs, then test pairs."""
    names = sorted(by_category)
    figure, (axes,) = new_figure(8, 1.3 + 0.42 * max(1, len(names)))
    top = max([1, *(row["train"] + row["test"] for row in by_category.values())])
    for i, name in enumerate(names):
        train, test = by_category[name]["train"], by_category[name]["test"]
        axes.barh(i, train, color=SAFE, height=0.62, label="train" if not i else None)
        axes.barh(i, test, left=train, color="#56B4E9", height=0.62, label="" if i else "test")
        text = f"{train:,} + {test:,}"
        axes.text(train + test + 0.012 * top, i, text, va="center", color=INK, fontsize=9)
    axes.set_yticks(range(len(names)), names)
    _rows(axes, top)
    _legend(figure, axes, 2)
    axes.set_title("Pairs by category: train + test", loc="left", fontsize=11, color=INK)
    return png_bytes(figure, _DPI)


def funnel_plot(funnel: Sequence[Sequence[Any]]) -> bytes:
    """One bar per stage: kept rows, then lost rows coloured by reason.

    ``funnel``: rows of stage, reason and count, in stage order.
    """
    stages = list(dict.fromkeys(stage for stage, _, _ in funnel))
    reasons = list(dict.fromkeys(reason for _, reason, _ in funnel if reason != KEPT))
    totals = {r: sum(n for _, reason, n in funnel if reason == r) for r in reasons}
    colours = {r: LOST[i % len(LOST)] for i, r in enumerate(reasons)}
    legend = math.ceil((len(reasons) + 1) / 3)
    figure, (axes,) = new_figure(9, 1.1 + 0.42 * len(stages) + 0.24 * legend)
    ends = dict.fromkeys(stages, 0)
    axes.barh(0, 0, color=SAFE, label="kept")
    for reason in reasons:
        label = f"{reason.replace('_', ' ')}: {totals[reason]:,}"
        axes.barh(0, 0, color=colours[reason], label=label)
    for stage, reason, n in funnel:
        colour = colours.get(reason, SAFE)
        axes.barh(stages.index(stage), n, left=ends[stage], color=colour, height=0.62)
        ends[stage] += n
    kept = {stage: n for stage, reason, n in funnel if reason == KEPT}
    top = max([1, *ends.values()])
    for i, stage in enumerate(stages):
        lost = ends[stage] - kept.get(stage, 0)
        text = f"{kept.get(stage, 0):,}" + (f"  (less {lost:,})" if lost else "")
        axes.text(ends[stage] + 0.012 * top, i, text, va="center", color=INK, fontsize=9)
    axes.set_yticks(range(len(stages)), stages)
    _rows(axes, top)
    _legend(figure, axes, 3)
    title = "Rows that each stage kept and set aside; images and scores count both sides"
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    return png_bytes(figure, _DPI)


def scores_plot(
    counts: Mapping[str, tuple[np.ndarray, np.ndarray]], flags: Sequence[Mapping[str, Any]]
) -> bytes:
    """One panel per score: histograms of the safe and the unsafe side, and the threshold.

    At most ``MAX_PANELS``: scores with a threshold, then pair scores, then those whose sides differ
    most.

    Args:
        counts: by column, counts (``BINS``) and bin edges (``BINS + 1``), of :func:`count_scores`.
        flags: rules with ``scorer``, ``key`` and ``at_least``.

    Returns:
        A PNG.
    """
    limits = {score_column(f["scorer"], f["key"], "safe"): f["at_least"] for f in flags}
    every = list(dict.fromkeys(_safe_column(name, counts) for name in counts))
    telling = {name: (name not in limits, -_difference(name, counts)) for name in every}
    panels = sorted(every, key=lambda name: telling[name])[:MAX_PANELS]
    columns = min(_PANELS, len(panels))
    figure, drawn = new_figure(
        3.6 * columns, 0.6 + 2.3 * math.ceil(len(panels) / columns), len(panels), columns
    )
    for axes, name in zip(drawn, panels, strict=True):
        other = _other_side(name)
        sides = [(name, SAFE, "safe image"), (other, UNSAFE, "unsafe image")]
        if other not in counts:
            sides = [(name, NEUTRAL, "pair of prompts")]
        for column, colour, label in sides:
            values, edges = counts[column]
            axes.stairs(values, edges, color=colour, fill=True, alpha=0.35)
            axes.stairs(values, edges, color=colour, linewidth=1.2, label=label)
        if name in limits:
            axes.axvline(limits[name], color=INK, linestyle="--", linewidth=1, label="threshold")
        axes.set_yscale("symlog", linthresh=1)  # so one image is visible next to a thousand
        axes.set_ylim(bottom=0)
        axes.set_title(_panel_title(name, other in counts, limits), fontsize=9, color=INK)
    _legend(figure, drawn, 4)
    shown = f", {len(panels)} of {len(every)} scores" if len(panels) < len(every) else ""
    title = f"Released rows by score (counts, logarithmic{shown})"
    figure.suptitle(title, fontsize=11, color=INK)
    return png_bytes(figure, _DPI)


def count_scores(
    files: Sequence[Path], columns: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Histograms of score columns, with one batch of rows in memory at a time.

    Args:
        files: the data files; they are read twice.
        columns: names of score columns.

    Returns:
        By column, counts (``BINS``) and bin edges (``BINS + 1``). Both sides of a score share their
        edges: [0, 1] if all values are in it, else their range.
    """
    ranges = {name: (math.inf, -math.inf) for name in columns}
    for name, values in _batches(files, columns):
        low, high = ranges[name]
        ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
    edges = {
        name: _edges([ranges[n] for n in (name, _other_side(name)) if n in ranges])
        for name in columns
    }
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in columns}
    for name, values in _batches(files, columns):
        counts[name] += np.histogram(values, edges[name])[0]
    return {name: (counts[name], edges[name]) for name in columns}


def _batches(files: Sequence[Path], columns: Sequence[str]) -> Any:
    for file in files:
        with pq.ParquetFile(file) as source:
            for batch in source.iter_batches(columns=list(columns)):
                for name in columns:
                    values = batch[name].drop_null().to_numpy(zero_copy_only=False)
                    if len(values):
                        yield name, values


def _edges(ranges: Sequence[tuple[float, float]]) -> np.ndarray:
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if low > high or (low >= 0 and high <= 1):  # no values, or shares
        low, high = 0.0, 1.0
    elif low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def _other_side(name: str) -> str:
    return f"{name[:-1]}{1 - int(name[-1])}" if name.endswith(("_0", "_1")) else ""


def _difference(name: str, counts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> float:
    """Total variation distance of the two sides' histograms; 2 for a score without sides."""
    other = _other_side(name)
    if other not in counts:
        return 2.0
    one, two = counts[name][0], counts[other][0]
    return float(np.abs(one / max(1, one.sum()) - two / max(1, two.sum())).sum() / 2)


def _safe_column(name: str, counts: Mapping[str, object]) -> str:
    return _other_side(name) if name.endswith("_1") and _other_side(name) in counts else name


def _panel_title(name: str, sided: bool, limits: Mapping[str, float]) -> str:
    title = name.removeprefix("score_")
    title = title.removesuffix("_0") if sided else title
    return f"{title} (flagged from {limits[name]:g})" if name in limits else title


def _rows(axes: Axes, top: float) -> None:
    """Lay out bars from top to bottom, with space for their numbers."""
    axes.set_xlim(0, 1.25 * top)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def _legend(figure: Figure, axes: Axes | Sequence[Axes], columns: int) -> None:
    found: dict[str, Any] = {}
    for one in [axes] if isinstance(axes, Axes) else axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(
        list(found.values()), list(found), loc="outside lower center", ncols=columns,
        frameon=False, fontsize=9,
    )  # fmt: skip
