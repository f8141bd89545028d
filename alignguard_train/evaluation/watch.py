"""IP on held-out prompts while an expert trains: for watching alone, nothing is chosen by it."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alignguard_data.contracts import records
from alignguard_data.contracts.protocols import ImageScorer
from alignguard_data.release.reader import release_folder
from alignguard_data.storage.paths import DataRoot
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.intervals import Bootstrap
from alignguard_train.evaluation.judge import (
    AdaptableGenerator,
    judge,
    read_rows,
    render_in_batches,
)
from alignguard_train.evaluation.statistics import ip

if TYPE_CHECKING:
    from alignguard_train.adapters.lora import Lora


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutIP:
    """Call it with an adapter: its IP on the held-out unsafe prompts of its own categories.

    The noise is other than the evaluation's, so that its images stay unseen. The generator loads
    a base model of its own beside the one under training.
    """

    data: DataRoot
    categories: Sequence[str]
    generator: AdaptableGenerator
    scorers: Sequence[ImageScorer]
    config: EvaluationConfig

    def __call__(self, lora: "Lora") -> float:
        from alignguard_train.adapters.lora import save_lora

        rows = [
            replace(row, seed=records.pair_seed(row.pair_id, "held-out"))
            for row in read_rows(release_folder(self.data), self.config.prompts_per_concept)
            if row.side == "unsafe" and row.category in set(self.categories)
        ]
        flagged: list[bool] = []  # an image is let go as soon as it is judged
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lora.safetensors"
            save_lora(lora, path)
            with self.generator.adapted(path):
                for part, images in render_in_batches(self.generator, rows):
                    judged = judge("held-out", part, images, self.scorers, self.config, None)
                    flagged += [image.flagged for image in judged]
        return ip(flagged, [row.pair_id for row in rows], Bootstrap(resamples=100)).value
