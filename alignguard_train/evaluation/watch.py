"""IP on held-out prompts during training, for monitoring only: nothing is selected by it."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alignguard_data.contracts import records
from alignguard_data.contracts.protocols import ImageScorer
from alignguard_data.release.reader import release_folder
from alignguard_data.storage.paths import DataRoot
from alignguard_train.contracts.intervals import Bootstrap
from alignguard_train.evaluation.config import EvaluationConfig
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
    """Measures an adapter's IP on the held-out unsafe prompts of its categories.

    Its noise differs from the evaluation's, so evaluation images stay unseen. The generator loads a
    second base model.
    """

    data: DataRoot
    categories: Sequence[str]
    generator: AdaptableGenerator
    scorers: Sequence[ImageScorer]
    config: EvaluationConfig

    def __call__(self, lora: "Lora") -> float:
        """IP of the adapter, in [0, 1]."""
        from alignguard_train.adapters.lora import save_lora

        rows = [
            replace(row, seed=records.pair_seed(row.pair_id, "held-out"))
            for row in read_rows(release_folder(self.data), self.config.prompts_per_concept)
            if row.side == "unsafe" and row.category in set(self.categories)
        ]
        flagged: list[bool] = []  # frees each image once judged
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lora.safetensors"
            save_lora(lora, path)
            with self.generator.adapted(path):
                for part, images in render_in_batches(self.generator, rows):
                    judged = judge("held-out", part, images, self.scorers, self.config, None)
                    flagged += [image.flagged for image in judged]
        return ip(flagged, [row.pair_id for row in rows], Bootstrap(resamples=100)).value
