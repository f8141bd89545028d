"""Renders and judges one adapter's images while earlier ones are judged and saved."""

import time
from collections.abc import Callable, Sequence

from alignguard_data.contracts.protocols import Pixels, Progress
from alignguard_data.storage.background import BackgroundThread
from alignguard_train.evaluation.contenders import Entrant
from alignguard_train.evaluation.judge import AdaptableGenerator, alike_sampled
from alignguard_train.evaluation.records import EvaluatedImage, EvaluationRow
from alignguard_train.evaluation.shards import AdapterShards


class AdapterRun:
    """Renders and judges one adapter's images, batch by batch.

    Args:
        shards: the adapter's files.
        judging: judges ``rows`` and their ``images``.
    """

    def __init__(self, shards: AdapterShards, judging: Callable[..., list[EvaluatedImage]]) -> None:
        self._shards, self._judge = shards, judging
        self._seconds = 0.0

    def run(
        self,
        rows: Sequence[EvaluationRow],
        generator: AdaptableGenerator,
        entrant: Entrant,
        progress: Progress | None,
    ) -> tuple[float, int]:
        """Render and save what earlier attempts did not.

        Args:
            rows: every image of the adapter.
            generator: renders.
            entrant: puts the adapter on the generator.
            progress: called with the number of images just finished.

        Returns:
            Seconds of rendering, and the number of images.
        """
        have = set(self._shards.places())
        missing = [row for row in rows if (row.pair_id, row.side) not in have]
        if not missing:
            return 0.0, 0
        with entrant.on(), BackgroundThread() as behind:
            for sampling, alike in alike_sampled(missing, generator.sampling):
                with generator.sampled(sampling):
                    self._render(alike, generator, behind, progress)
        return self._seconds, len(missing)

    def _render(
        self,
        rows: Sequence[EvaluationRow],
        generator: AdaptableGenerator,
        behind: BackgroundThread,
        progress: Progress | None,
    ) -> None:
        while rows:
            part, rows = rows[: generator.images_per_call], rows[generator.images_per_call :]
            started = time.perf_counter()
            images = generator.render([r.prompt for r in part], [r.seed for r in part], progress)
            self._seconds += time.perf_counter() - started
            behind.submit(self._saving(part, images))

    def _saving(self, part: Sequence[EvaluationRow], images: Pixels) -> Callable[[], None]:
        return lambda: self._shards.save(self._judge(rows=part, images=images))
