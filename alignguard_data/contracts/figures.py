"""Matplotlib figures that need no display: one style, and equal numbers give equal bytes."""

import io
import math

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, GRID = "#262626", "#6b6b6b", "#e4e4e2"
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
    "#8C6D31",
    "#7F7F7F",
)
"""Okabe and Ito's colours, which people with any colour vision can tell apart, and two more."""


def new_figure(
    width: float, height: float, panels: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Make an empty figure whose panels have a light grid.

    Args:
        width: inches.
        height: inches.
        panels: number of panels.
        columns: panels in a row.

    Returns:
        The figure and its panels, row by row.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(math.ceil(panels / columns), columns, squeeze=False).flat)
    for one in axes[panels:]:
        one.set_visible(False)
    for one in axes[:panels]:
        one.set_axisbelow(True)
        one.grid(color=GRID, linewidth=0.8)
        one.tick_params(colors=INK, labelsize=9, length=0)
        for side in ("top", "right", "left"):
            one.spines[side].set_visible(False)
        one.spines["bottom"].set_color(GRID)
    return figure, axes[:panels]


def png_bytes(figure: Figure, dpi: int) -> bytes:
    """Encode a figure as PNG, without the name of the program in it.

    Args:
        figure: the figure.
        dpi: dots per inch.

    Returns:
        The file's bytes.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
