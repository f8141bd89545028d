"""The scene reader's last hidden layer as features: what a scene shows, glyphs apart."""

import numpy as np
import numpy.typing as npt
import torch

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.scores.network import (
    SceneNet,
    as_input,
    load_weights,
    weights_hash,
)


class SceneFeatures:
    """A ``FeatureExtractor``.

    96 non-negative values per image with a mean square of 1; the raw values are large and would
    make KID's cubic kernel noisy.
    """

    name = "scene-features"

    def __init__(self, *, batch_size: int = 32) -> None:
        self._batch_size = batch_size
        self._trunk: torch.nn.Module | None = None

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return f"2-{weights_hash('scene')}"

    @torch.inference_mode()
    def features(self, images: Pixels) -> npt.NDArray[np.float32]:
        """Features of what a scene shows.

        Args:
            images: uint8 RGB (images, 32, 32, 3).

        Returns:
            Float32 (images, 96) with a mean square of 1 an image.

        Raises:
            EngineError: the images have another size, or the weights are missing.
        """
        if self._trunk is None:
            network = load_weights(SceneNet(), "scene")
            assert isinstance(network, SceneNet)
            self._trunk = network.trunk
        # Batches have one size, since a short one changes the last bits (as may the position in
        # it).
        padding = -len(images) % self._batch_size
        whole = np.concatenate([images, np.zeros((padding, *images.shape[1:]), np.uint8)])
        parts = [
            self._trunk(as_input(whole[first : first + self._batch_size])).numpy()
            for first in range(0, len(whole), self._batch_size)
        ]
        found = np.concatenate(parts)[: len(images)]
        size = np.sqrt(np.mean(found**2, axis=1, keepdims=True))
        return found / np.maximum(size, np.float32(1e-6))
