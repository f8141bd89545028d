"""Evaluation from prompts to report.html, against rendering plus scoring.

Images per second on the stand-in, with its base model, scorers and features.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from alignguard_data.audit.rooms import AuditBounds
from alignguard_data.release.reader import release_folder
from alignguard_data.release.room import ReleaseConfig, build_release
from alignguard_data.storage.writes import remove_tree
from alignguard_train.adapters.lora import WEIGHTS, save_lora
from alignguard_train.contracts.adapter_names import BASE, MERGED
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.judge import BaseImage, evaluation_rows, judge
from alignguard_train.evaluation.room import evaluate_all
from benchmarks.dataset import build
from benchmarks.merging import random_experts
from pipelines.profile import load_profile
from pipelines.resources import Engines

PROMPTS_PER_CONCEPT = 4


def measure(runs: int) -> dict[str, float]:
    """Medians over ``runs``; base model and one adapter of random weights."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.whole()  # warm-up
        wholes = [world.whole() for _ in range(runs)]
        parts = [world.parts() for _ in range(runs)]
    images = world.images
    whole = statistics.median(seconds for seconds, _ in wholes)
    render, score = (statistics.median(part[i] for part in parts) for i in range(2))
    return {
        "images": float(images),
        "images_a_second": images / whole,
        "images_a_second_rendering_alone": images / render,
        "images_a_second_scoring_alone": images / score,
        "images_a_second_of_both_in_turn": images / (render + score),
        "times_both_in_turn": (render + score) / whole,
        "share_of_tables_and_report": statistics.median(last for _, last in wholes) / whole,
    }


class World:
    """A release of the stand-in world and its evaluation."""

    def __init__(self, folder: Path) -> None:
        self._engines = Engines(load_profile("standin"), folder)
        self._data, taxonomy = build(folder, pairs_per_concept=25, size=32)
        build_release(self._data, taxonomy, ReleaseConfig(), AuditBounds())
        self._config: EvaluationConfig = dataclasses.replace(
            self._engines.profile.evaluation,
            prompts_per_concept=PROMPTS_PER_CONCEPT,
            prompt_sets=(),
        )
        self._adapter = folder / WEIGHTS
        lora = random_experts(self._engines.base.pipe.unet, 1, 4)[0]
        save_lora(lora, self._adapter)
        self._rows = evaluation_rows(
            release_folder(self._data), self._config, [], self._engines.generator.sampling
        )

    @property
    def images(self) -> int:
        """Images of both adapters."""
        return 2 * len(self._rows)

    def whole(self) -> tuple[float, float]:
        """Seconds of the room, and of its work after the last image."""
        engines = self._engines
        remove_tree(self._data.partition("evaluation"))
        started = drawn = time.perf_counter()

        def progress(_: int) -> None:
            nonlocal drawn
            drawn = time.perf_counter()

        evaluate_all(
            self._data, {MERGED: self._adapter}, engines.generator, engines.evaluation_scorers,
            self._config, progress, engines.evaluation_features,
        )  # fmt: skip
        ended = time.perf_counter()
        return ended - started, ended - drawn

    def parts(self) -> tuple[float, float]:
        """Seconds of rendering and of judging all images."""
        generator, size = self._engines.generator, self._engines.generator.images_per_call
        batches = [self._rows[i : i + size] for i in range(0, len(self._rows), size)]
        render, score = 0.0, 0.0
        base: Mapping[tuple[str, str], BaseImage] | None = None
        for name, path in {BASE: None, MERGED: self._adapter}.items():
            started = time.perf_counter()
            with generator.adapted(path):
                drawn = [
                    generator.render([r.prompt for r in rows], [r.seed for r in rows])
                    for rows in batches
                ]
            render += time.perf_counter() - started
            started = time.perf_counter()
            judged = [
                image
                for rows, images in zip(batches, drawn, strict=True)
                for image in judge(
                    name, rows, images, self._engines.evaluation_scorers, self._config, base,
                    self._engines.evaluation_features,
                )
            ]  # fmt: skip
            score += time.perf_counter() - started
            base = {(i.pair_id, i.side): BaseImage(i.image, i.features) for i in judged}
        return render, score
