"""Plots index growth from results.jsonl: seconds of builds and queries by pairs, log-log.

python -m benchmarks.index_plot docs/images/index_growth.png
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

SERIES = {
    "full build": ("full_seconds", 1.0),
    "build after 1 % changed": ("incremental_seconds", 1.0),
    "query: coverage": ("coverage_ms", 1e-3),
    "query: flag_rates": ("flag_rates_ms", 1e-3),
    "query: near_misses": ("near_misses_ms", 1e-3),
    "query: lineage of a pair": ("lineage_ms", 1e-3),
    "query: funnel": ("funnel_ms", 1e-3),
}
"""Plot label to the figure's name and its unit in seconds."""


def newest_figures(lines: Iterable[str]) -> dict[str, float]:
    """The newest of each figure of the index benchmark; ``lines`` are from results.jsonl."""
    found: dict[str, float] = {}
    for line in lines:
        result = json.loads(line)
        if result["benchmark"] == "index":
            found |= result["figures"]
    return found


def points(figures: Mapping[str, float], figure: str) -> list[tuple[int, float]]:
    """Pairs and value of one figure at every measured size, sorted by size."""
    matches = ((re.fullmatch(rf"{figure}_at_(\d+)", name), v) for name, v in figures.items())
    return sorted((int(match[1]), value) for match, value in matches if match)


def draw(figures: Mapping[str, float], target: Path) -> None:
    """Write the plot; a dotted line shows linear growth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, (key, unit) in SERIES.items():
        sizes, values = zip(*points(figures, key), strict=True)
        dash = "-" if key.endswith("seconds") else "--"
        axes.loglog(sizes, [value * unit for value in values], dash, marker="o", label=name)
    ends = [size for size, _ in points(figures, "full_seconds")]
    axes.loglog(ends, [size * 1e-4 for size in ends], ":", color="grey", label="linear")
    axes.set(xlabel="prompt pairs", ylabel="seconds", title="The index, 700 concepts")
    axes.grid(which="both", alpha=0.2)
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(target, dpi=120)


if __name__ == "__main__":
    written = (Path(__file__).parent / "results.jsonl").read_text().splitlines()
    draw(newest_figures(written), Path(sys.argv[1]))
