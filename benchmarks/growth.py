"""How the stages after the release grow: CPU seconds over pairs, experts, rank and concepts.

Draws docs/images/growth.png: one log-log panel per quantity, with the fitted slope.
"""

import dataclasses
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from alignguard_data.contracts.figures import GRID, INK, MUTED, PALETTE
from alignguard_data.storage.shards import write_bytes
from alignguard_train.adapters.lora import Lora
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import standin_expert
from alignguard_train.encodings.encoder import encode
from alignguard_train.experts.trainer import train_expert
from alignguard_train.merge.calibration import measure_activity
from alignguard_train.merge.config import MergeConfig
from alignguard_train.merge.strategies import merge
from benchmarks.merging import random_experts
from benchmarks.obvious_loop import random_preferences
from pipelines.profile import load_profile
from pipelines.resources import Engines

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "growth.png"
SIZES = {
    "pairs": (8, 16, 32, 64, 128),
    "experts": (2, 4, 8, 16, 32),
    "rank": (2, 4, 8, 16, 32, 64),
    "concepts": (1, 2, 4, 8),
}
WHAT = {
    "pairs": "one epoch of an expert",
    "experts": "Co-Merge at rank 4, calibration included",
    "rank": "Co-Merge of 7 experts, calibration included",
    "concepts": "rendering and scoring 32 images a concept",
}
IMAGES_PER_CONCEPT = 32
"""One batch of the profile; fewer cost the same."""
LINE = tuple[Sequence[int], Sequence[float], float]
"""Sizes, seconds, and the slope of log seconds over log size."""


def measure(runs: int) -> dict[str, float]:
    """Slope of each line, and the seconds at its ends; medians over ``runs``.

    CPU seconds of this process with one thread, so other load does not count.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            stages = Stages(Path(folder))
            lines = {name: _line(name, stages, runs) for name in SIZES}
    finally:
        torch.set_num_threads(threads)
    write_bytes(PICTURE, picture(lines))
    figures: dict[str, float] = {}
    for name, (sizes, seconds, slope) in lines.items():
        figures[f"slope_over_{name}"] = slope
        for end in (0, -1):
            figures[f"seconds_at_{sizes[end]}_{name}"] = seconds[end]
    return figures


def _line(name: str, stages: "Stages", runs: int) -> LINE:
    work, sizes = getattr(stages, name), SIZES[name]
    work(sizes[0])  # warm-up
    seconds = [statistics.median(_cpu_seconds(work, size) for _ in range(runs)) for size in sizes]
    return sizes, seconds, float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _cpu_seconds(work: Callable[[int], object], size: int) -> float:
    started = time.process_time()
    work(size)
    return time.process_time() - started


class Stages:
    """The measured functions by size, on the stand-in."""

    def __init__(self, folder: Path) -> None:
        self._engines = Engines(load_profile("standin"), folder)
        self._folder = folder
        self._base: BaseModel = self._engines.base
        self._width = self._engines.profile.sampling.width
        most = max(SIZES["pairs"])
        self._pairs = encode(random_preferences(most, self._width), self._base)
        self._experts = random_experts(self._base.pipe.unet, max(SIZES["experts"]), 4)

    def pairs(self, number: int) -> None:
        """Train on every pair once, with the shipped recipe."""
        recipe = standin_expert()
        recipe = dataclasses.replace(recipe, steps=-(-number // recipe.batch_size))
        encoded = dataclasses.replace(
            self._pairs, concepts=["a.x"] * number, categories=["a"] * number
        )
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            train_expert(self._base, encoded, recipe, seed=0, checkpoint=Path(folder) / "c")

    def experts(self, number: int) -> None:
        """Merge; each expert adds its category's calibration inputs."""
        self._merge(self._experts[:number])

    def rank(self, rank: int) -> None:
        """Merge seven experts of this rank."""
        self._merge(random_experts(self._base.pipe.unet, 7, rank))

    def _merge(self, experts: Sequence[Lora]) -> None:
        config, most = MergeConfig(), len(self._pairs)
        names = [str(number) for number in range(len(experts))]
        places = torch.arange(len(names) * config.calibration_pairs) % most
        encoded = dataclasses.replace(
            self._pairs,
            categories=names * config.calibration_pairs,
            rejected=self._pairs.rejected[places],
            unsafe=self._pairs.unsafe[places],
        )
        merge("co-merge", experts, measure_activity(self._base, experts, encoded, config), config)

    def concepts(self, number: int) -> None:
        """Render in the profile's batches, and score."""
        engines, images = self._engines, number * IMAGES_PER_CONCEPT
        prompts = [f"a meadow with kite {i}" for i in range(images)]
        size = engines.generator.images_per_call
        for first in range(0, images, size):
            part = prompts[first : first + size]
            drawn = engines.generator.render(part, list(range(first, first + len(part))))
            for scorer in engines.evaluation_scorers:
                scorer.score(drawn, part)


def picture(lines: Mapping[str, LINE]) -> bytes:
    """One panel per line, as PNG."""
    figure = Figure(figsize=(9, 6.4), layout="constrained", facecolor="white")
    for axes, colour, (name, line) in zip(
        figure.subplots(2, 2).flat, PALETTE, lines.items(), strict=False
    ):
        _panel(axes, colour, name, line)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _panel(axes: Axes, colour: str, name: str, line: LINE) -> None:
    sizes, seconds, slope = line
    fitted = np.polyfit(np.log(sizes), np.log(seconds), 1)
    axes.loglog(sizes, np.exp(np.polyval(fitted, np.log(sizes))), color=MUTED, linewidth=1)
    axes.loglog(sizes, seconds, "o", color=colour)
    axes.set_title(f"{WHAT[name]}: slope {slope:.2f}", fontsize=9, color=INK, loc="left")
    axes.set_xlabel(name)
    axes.set_ylabel("CPU seconds")
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(min(seconds) / 2, max(seconds) * 2)  # keeps noise small
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
