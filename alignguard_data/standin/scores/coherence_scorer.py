"""Scores whether an image is a scene of this world at all, regardless of its caption."""

from collections.abc import Sequence

import torch

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.scores.network import Reader, SceneNet


class CoherenceScorer:
    """Key: ``certainty``, how sure the scene network is of the attribute that it is least sure of.

    Of drawings, with a glyph or without, it is over 0.98 in 99 of 100; of noise, blurred images,
    shuffled pixels or mixtures of two images, below 0.9 in 90 of 100.
    """

    def __init__(self, *, batch_size: int = 256) -> None:
        self._reader = Reader(SceneNet, "scene", batch_size)

    @property
    def name(self) -> str:
        """See :class:`ImageScorer`."""
        return "coherence"

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return self._reader.version

    @property
    def keys(self) -> tuple[str, ...]:
        """Only ``certainty``."""
        return ("certainty",)

    @torch.inference_mode()
    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """Score images regardless of their captions.

        Args:
            images: uint8 RGB (images, 32, 32, 3).
            prompts: not used.

        Returns:
            For each image ``certainty``, in [0, 1].

        Raises:
            EngineError: the images have another size, or the weights are missing.
        """
        del prompts
        rows: list[dict[str, float]] = []
        for _, logits in self._reader.read(images):
            sure = torch.stack([part.softmax(dim=1).amax(dim=1) for part in logits]).amin(dim=0)
            rows += [{"certainty": value} for value in sure.tolist()]
        return rows
