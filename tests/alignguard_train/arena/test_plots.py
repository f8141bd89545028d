"""The plot of a front: no label covers another, and no line runs over a label."""

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.text import Annotation

from alignguard_train.arena.fronts import front_of
from alignguard_train.arena.plots import DPI, front_figure, front_plot
from tests.alignguard_train.arena.small import cell, source, table

LONG = "peer:a defence whose name is much longer than that of any other"
LAYOUTS: dict[str, list[tuple[str, float, float]]] = {
    "one": [("base", 1.0, 0.0)],
    "two": [("base", 1.0, 0.0), ("merged", 0.0, 0.01)],
    "crossing": [("base", 0.5, 0.0), ("merged", 0.4, 0.9), ("peer:a", 0.6, 0.9)],
    "all in one point": [(f"peer:{n}", 0.0, 0.0) for n in range(12)],
    "at the right edge": [("base", 1.0, 0.0), *((f"peer:{n}", n / 9, 1.0) for n in range(9))],
    "far from its label": [("base", 1.0, 0.0), *((f"peer:{n}", 1.0, n / 30) for n in range(29))],
    "a long label": [("base", 1.0, 0.0), (LONG, 0.9, 0.3), ("peer:b", 0.0, 1.0)],
}


def arena(points: Sequence[tuple[str, float, float]]):
    cells = [
        cell(name, column, value, low=None, high=None)
        for name, safety, cost in points
        for column, value in (("ip_seen", safety), ("distance", cost))
    ]
    return table(source(*cells))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_line_touches_a_label_and_no_label_another_or_the_edge(layout: str):
    made = arena(LAYOUTS[layout])
    figure = front_figure(made, front_of(made, "worst", "distance"))
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    labels = [one for one in figure.axes[0].texts if isinstance(one, Annotation)]
    assert len(labels) == len(LAYOUTS[layout])
    texts = {one.get_text(): super(Annotation, one).get_window_extent() for one in labels}
    assert len(texts) == len(labels)
    for one in labels:
        assert one.arrow_patch is not None
        line = one.arrow_patch.get_path().transformed(one.arrow_patch.get_transform())
        own = texts[one.get_text()]
        assert np.asarray(line.vertices)[:, 0].max() > own.x0 - 12  # it reaches its label
        touched = [name for name, box in texts.items() if line.intersects_bbox(box, filled=False)]
        assert not touched, one.get_text()
        others = [box for name, box in texts.items() if name != one.get_text()]
        assert own.count_overlaps(others) == 0
        assert figure.bbox.x0 <= own.x0
        assert own.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= own.y0
        assert own.y1 <= figure.bbox.y1


def test_equal_tables_give_equal_bytes():
    made = arena(LAYOUTS["two"])
    front = front_of(made, "worst", "distance")
    assert front_plot(made, front) == front_plot(made, front)
