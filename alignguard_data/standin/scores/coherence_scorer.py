"""Scores whether an image is a scene of this world at all, regardless of its caption."""

from collections.abc import Sequence

import torch
from torch import nn

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.scores.network import SceneNet, as_input, load_weights, weights_hash


class CoherenceScorer:
    """Key: ``certainty``, how sure the scene network is of the attribute that it is least sure of.

    Of drawings, with a glyph or without, it is over 0.98 in 99 of 100; of noise, blurred images,
    shuffled pixels or mixtures of two images, below 0.9 in 90 of 100.
    """

    def __init__(self, *, batch_size: int = 256) -> None:
        self._batch_size = batch_size
        self._network: nn.Module | None = None

    @property
    def name(self) -> str:
        """See :class:`ImageScorer`."""
        return "coherence"

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return f"1-{weights_hash('scene')}"

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
        if self._network is None:
            self._network = load_weights(SceneNet(), "scene")
        rows: list[dict[str, float]] = []
        for start in range(0, len(images), self._batch_size):
            logits = self._network(as_input(images[start : start + self._batch_size]))
            sure = torch.stack([part.softmax(dim=1).amax(dim=1) for part in logits]).amin(dim=0)
            rows += [{"certainty": value} for value in sure.tolist()]
        return rows
