"""Whether an image shows the text that was drawn instead of the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import ImageScorer

DISAGREES = "image_disagrees_with_its_prompt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Consistency:
    """A scorer of the match of image and text, and the least score that passes.

    Attributes:
        scorer: such as :class:`alignguard_data.scores.ClipScorer`, or the stand-in's scene scorer.
        key: of its scores; higher is a better match.
        least: mean over an image's frames.

    Raises:
        EngineError: the scorer has no such key.
    """

    scorer: ImageScorer
    key: str
    least: float

    def __post_init__(self) -> None:
        if self.key not in self.scorer.keys:
            known = ", ".join(self.scorer.keys)
            raise EngineError(f"scorer {self.scorer.name} has no key {self.key!r}; it has {known}")

    def reasons(self, videos: Tensor, texts: Sequence[str]) -> list[str]:
        """Why rows do not pass.

        Args:
            videos: (rows, frames, 3, height, width), 0 to 1.
            texts: what each row was drawn for; empty: the row is not compared.

        Returns:
            A reason a row, empty where it passes or is not compared. A score that is no number does
            not pass.
        """
        found = [""] * len(texts)
        rows = [i for i, text in enumerate(texts) if text]
        if not rows:
            return found
        frames = videos.shape[1]
        images = (videos[rows].flatten(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
        each = [texts[i] for i in rows for _ in range(frames)]
        scores = self.scorer.score(images.cpu().numpy(), each)
        means = np.array([one[self.key] for one in scores]).reshape(len(rows), frames).mean(axis=1)
        for i, mean in zip(rows, means, strict=True):
            if not mean >= self.least:
                found[i] = f"{DISAGREES}: {self.key} {mean:.2f} below {self.least:.2f}"
        return found
