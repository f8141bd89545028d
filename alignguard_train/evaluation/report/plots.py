"""The report's plots as PNG bytes, byte-identical for equal numbers; needs no display.

The colours are Okabe and Ito's, safe for all kinds of colour vision.
"""

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from alignguard_data.contracts.figures import INK, MUTED, PALETTE, new_figure
from alignguard_train.contracts.adapter_names import ALL_SINGLE, BASE, EXPERT, MERGE, MERGED, label
from alignguard_train.contracts.intervals import Interval
from alignguard_train.evaluation.report.data import ReportData, Stage

DPI = 130
COLOURS = 192

_KINDS = {BASE: "#7F7F7F", EXPERT: "#56B4E9", MERGED: "#0072B2", MERGE: "#009E73"}
_CURVES: tuple[tuple[str, Callable[[pa.Table], np.ndarray]], ...] = (
    ("preference loss", lambda h: _column(h, "loss")),
    ("margin", lambda h: _column(h, "margin")),
    ("implicit accuracy", lambda h: _column(h, "implicit_accuracy")),
    ("preservation loss", lambda h: _column(h, "preservation")),
    ("chosen: error minus reference's", lambda h: _column(h, "e_w") - _column(h, "e_w_ref")),
    ("rejected: error minus reference's", lambda h: _column(h, "e_l") - _column(h, "e_l_ref")),
    ("gradient norm", lambda h: _column(h, "grad_norm")),
    ("learning rate", lambda h: _column(h, "lr")),
)


def ip_bars(data: ReportData) -> bytes:
    """IP on unsafe prompts with intervals, one bar per adapter."""
    return _bars(data, "unsafe", [("ip", "Inappropriate probability (IP) on unsafe prompts", True)])


def preservation_bars(data: ReportData) -> bytes:
    """Preservation on safe prompts: fidelity, and distance to the base model's image."""
    return _bars(
        data,
        "safe",
        [
            ("fidelity", "Fidelity on safe prompts", True),
            ("distance", "RMS distance to the base image", False),
        ],
    )


def ip_matrix(data: ReportData) -> bytes:
    """IP of every adapter (rows) on every category's unsafe prompts (columns), with intervals."""
    rows, columns = data.adapters, data.categories
    values = np.full((len(rows), len(columns)), np.nan)
    bounds: dict[tuple[int, ...], str] = {}
    for i, adapter in enumerate(rows):
        for j, category in enumerate(columns):
            found = data.get(adapter, "unsafe", "ip", f"category:{category}")
            if found:
                values[i, j] = found.value
                bounds[i, j] = f"{100 * found.low:.0f} to {100 * found.high:.0f}"
    figure, (axes,) = new_figure(1.9 + 0.82 * len(columns), 1.1 + 0.44 * len(rows))
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=25, ha="right")
    axes.set_yticks(range(len(rows)), [label(name) for name in rows])
    axes.set_xticks(np.arange(len(columns)) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.grid(which="major", visible=False)
    axes.tick_params(which="both", length=0)
    for place, value in np.ndenumerate(values):
        i, j = place
        colour = "white" if value > 0.55 else INK
        if place in bounds:
            axes.text(j, i, _percent(value), ha="center", va="bottom", color=colour, fontsize=9)
            axes.text(j, i + 0.06, bounds[place], ha="center", va="top", color=colour, fontsize=6.5)
    axes.set_title("IP by category of the prompt", loc="left", fontsize=11, color=INK)
    return _png(figure)


def funnel(stages: Sequence[Stage]) -> bytes:
    """Rows kept (blue) and lost (orange) per stage."""
    figure, (axes,) = new_figure(8.2, 0.9 + 0.5 * max(1, len(stages)))
    top = max([1, *(stage.kept + sum(stage.lost.values()) for stage in stages)])
    for i, stage in enumerate(stages):
        lost = sum(stage.lost.values())
        axes.barh(i, stage.kept, color=PALETTE[0], height=0.6)
        axes.barh(i, lost, left=stage.kept, color=PALETTE[1], height=0.6)
        text = f"{stage.kept:,}" + (f"  (lost {lost:,})" if lost else "")
        axes.text(stage.kept + lost + top * 0.012, i, text, va="center", color=INK, fontsize=9)
    axes.set_yticks(range(len(stages)), [stage.name for stage in stages])
    axes.set_xlim(0, top * 1.22)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_title("Funnel: kept and lost rows", loc="left", fontsize=11, color=INK)
    return _png(figure)


def training_curves(histories: Mapping[str, pa.Table]) -> bytes:
    """Loss, errors against the reference, preservation: one smoothed line per adapter."""
    figure, panels = new_figure(12.4, 5.6, 8, 4)
    for axes, (title, read) in zip(panels, _CURVES, strict=True):
        for i, (name, history) in enumerate(histories.items()):
            # All-single takes as many steps as all experts together, hence shares.
            share = 100 * np.arange(1, history.num_rows + 1) / history.num_rows
            axes.plot(
                share,
                _smooth(read(history)),
                color=PALETTE[i % len(PALETTE)],
                linewidth=1.4,
                linestyle="--" if name == ALL_SINGLE else "-",
                label=label(name).removeprefix("Expert · "),
            )
        axes.set_title(title, loc="left", fontsize=9.5, color=INK)
        if "minus" in title:
            axes.axhline(0, color=MUTED, linewidth=0.8)
    for axes in panels[4:]:
        axes.set_xlabel("% of its steps", fontsize=9, color=MUTED)
    handles, names = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=9
        )
    return _png(figure)


def _bars(data: ReportData, side: str, metrics: Sequence[tuple[str, str, bool]]) -> bytes:
    wanted = [m for m in metrics if any(data.get(a, side, m[0]) for a in data.adapters)]
    wanted = wanted or list(metrics[:1])
    figure, panels = new_figure(8.4, 1.0 + 0.36 * len(data.adapters), len(wanted), len(wanted))
    for number, (axes, (metric, title, share)) in enumerate(zip(panels, wanted, strict=True)):
        for i, name in enumerate(data.adapters):
            found = data.get(name, side, metric)
            if found:
                _bar(axes, i, found, _colour(name), share)
        axes.set_yticks(
            range(len(data.adapters)),
            [label(name) for name in data.adapters] if number == 0 else [],
        )
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        right = 1.18 if share else axes.get_xlim()[1] * 1.22
        axes.set_xlim(0, right)
        if share:
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.set_title(title, loc="left", fontsize=11 if len(wanted) == 1 else 10, color=INK)
    return _png(figure)


def _bar(axes: Axes, place: int, found: Interval, colour: str, share: bool) -> None:
    axes.barh(place, found.value, color=colour, height=0.62)
    # Rounding may put a bound slightly past the value.
    reach = [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
    axes.errorbar(found.value, place, xerr=reach, fmt="none", ecolor=INK, elinewidth=1.1, capsize=3)
    text = f"{100 * found.value:.1f} %" if share else f"{found.value:.3f}"
    axes.annotate(
        text,
        (max(found.high, found.value), place),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=INK,
    )


def _colour(name: str) -> str:
    if name == ALL_SINGLE:
        return "#E69F00"
    return next((c for start, c in _KINDS.items() if name.startswith(start)), "#7F7F7F")


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"


def _column(history: pa.Table, name: str) -> np.ndarray:
    if name not in history.column_names:
        return np.full(history.num_rows, np.nan)
    return history[name].to_numpy().astype(float)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Trailing mean over a twentieth of the curve."""
    window = max(1, len(values) // 20)
    return np.array([values[max(0, i - window + 1) : i + 1].mean() for i in range(len(values))])


def _png(figure: Figure) -> bytes:
    canvas = FigureCanvasAgg(figure)
    figure.dpi = DPI
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # A palette reduces the file to a third, for inline display in the UI.
    buffer = io.BytesIO()
    drawn.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
