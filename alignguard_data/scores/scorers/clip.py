"""Scorer ``clip``: how well an image shows what its prompt says (CLIPScore, arXiv 2104.08718)."""

from collections.abc import Sequence

import numpy as np

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.engines.clip_model import ClipModel


class ClipScorer:
    """An ``ImageScorer`` with the key ``score``: 100 x cosine of image and prompt.

    Scores of different CLIP models are not comparable, so the version names the model.
    """

    name = "clip"
    keys = ("score",)

    def __init__(
        self, model: str, revision: str | None = None, device: str = "auto", batch_size: int = 32
    ) -> None:
        self._clip = ClipModel(model, revision, device, batch_size)

    @property
    def version(self) -> str:
        """Identity of the CLIP model."""
        return self._clip.identity

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """Compare images with their captions.

        Args:
            images: uint8 RGB (images, height, width, 3).
            prompts: one caption an image.

        Returns:
            For each image ``score``, 100 times the cosine of image and caption, in [-100, 100].

        Raises:
            EngineError: the model cannot be loaded.
        """
        if not len(images):
            return []
        shown, said = self._clip.images(images), self._clip.texts(prompts)
        cosines = np.clip((shown * said).sum(axis=1), -1, 1)
        return [{"score": round(100 * float(cosine), 4)} for cosine in cosines]
