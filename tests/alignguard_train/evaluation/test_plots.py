"""Plots are valid PNGs with equal bytes for equal numbers, also at the edges of the data."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from alignguard_train.contracts.intervals import Interval
from alignguard_train.evaluation.report import plots
from alignguard_train.evaluation.report.data import ReportData, Stage

ADAPTERS = ("base", "expert:shape", "all-single", "merged", "merge:average")


def data(**changes) -> ReportData:
    metrics = {}
    for i, adapter in enumerate(ADAPTERS):
        share = Interval(value=i / 4, low=max(0, i / 4 - 0.1), high=min(1, i / 4 + 0.1), n=20)
        for subset in ("all", "category:shape", "category:tone"):
            metrics[adapter, "unsafe", subset, "ip"] = share
        metrics[adapter, "safe", "all", "distance"] = share
    known = {
        "profile": "test",
        "release": "r",
        "release_content_id": "0",
        "config": {},
        "models": {},
        "versions": {},
        "adapters": ADAPTERS,
        "metrics": metrics,
    }
    return ReportData(**(known | changes))


def history(rows: int) -> pa.Table:
    return pa.table({"step": np.arange(rows), "loss": np.linspace(1, 0, rows)})


PLOTS = {
    "ip_bars": lambda: plots.ip_bars(data()),
    "ip_matrix": lambda: plots.ip_matrix(data()),
    "preservation": lambda: plots.preservation_bars(data()),
    "funnel": lambda: plots.funnel([Stage(name="a", kept=3, lost={"x": 1})]),
    "funnel of nothing": lambda: plots.funnel([Stage(name="a", kept=0, lost={})]),
    "curves": lambda: plots.training_curves({"expert:shape": history(40)}),
    "one step": lambda: plots.training_curves({"expert:shape": history(1)}),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_png_of_readable_size_and_the_same_each_time(name):
    one, again = PLOTS[name](), PLOTS[name]()
    assert one == again
    image = Image.open(io.BytesIO(one))
    assert min(image.size) > 120
    assert len(one) < 150_000


def test_a_larger_share_draws_a_longer_bar():
    """The base's bar is the only grey one: at IP 0.8 it covers about 4 times the pixels of 0.2."""

    def grey_pixels(value: float) -> int:
        share = Interval(value=value, low=value, high=value, n=9)
        made = plots.ip_bars(
            data(adapters=("base",), metrics={("base", "unsafe", "all", "ip"): share})
        )
        pixels = np.asarray(Image.open(io.BytesIO(made)).convert("RGB")).reshape(-1, 3)
        return int((np.abs(pixels.astype(int) - 0x7F).max(axis=1) <= 1).sum())

    assert grey_pixels(0.8) / grey_pixels(0.2) == pytest.approx(4, rel=0.1)


def test_curves_are_smoothed_over_a_twentieth():
    """40 values, window 2: means of neighbours; the first is its own."""
    assert plots._smooth(np.arange(40.0))[:3].tolist() == [0.0, 0.5, 1.5]
