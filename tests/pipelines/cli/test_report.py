"""`alignguard report` in a terminal of 80 columns: nothing is cut, and no figure is broken."""

import io
import json

import pytest

from alignguard_data.storage.paths import DataRoot
from pipelines.cli.console import Output
from pipelines.cli.report import print_summary

MEASURES = ("fidelity", "clip_score", "distance_to_base", "feature_distance")


def value(mean: float) -> dict[str, float]:
    return {"value": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 4703}


def printed(tmp_path, width: int) -> str:
    sides = {"unsafe": value(0.25), "safe": value(0.5)}
    names = ("base", "expert:illegal-activity", "merged", "merge:magnitude")
    summary = {
        "ip": {"base": sides, "experts": {"illegal-activity": sides}, "merged": sides},
        "preservation": {name: {m: value(0.75) for m in MEASURES} for name in names},
        "seconds": {"images": 3.0},
        "release": "r",
        "adapter": "a",
        "report": "p",
    }
    folder = tmp_path / "standin" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    console = Output(file=io.StringIO(), width=width)
    print_summary(console, DataRoot(root=tmp_path, profile="standin"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 160])
def test_every_interval_stands_whole_on_one_line(tmp_path, width):
    shown = printed(tmp_path, width)
    assert shown.count("0.750  [0.650, 0.850]  n=4703") == 4 * len(MEASURES)
    assert shown.count("0.250  [0.150, 0.350]  n=4703") == 3
    assert "…" not in shown
    assert all(len(line) <= width for line in shown.splitlines() if "n=" in line)
    for measure in MEASURES:
        assert measure.replace("_", " ") in shown
