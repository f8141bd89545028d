"""Random convolutions as features: no trained weight, so shared with no scorer of this world."""

import numpy as np
import numpy.typing as npt
import torch

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.scores.network import as_input

FILTERS, SIDE = 64, 3


class RandomFeatures:
    """A ``FeatureExtractor``: mean, largest and least answer of 64 fixed random 3x3 filters.

    192 values per image. The filters are drawn from a seed, not trained, so that the evaluation's
    judge shares neither weights nor training images with what is built on them.
    """

    name = "random-convolutions"
    version = f"1-{FILTERS}x{SIDE}"

    def __init__(self, *, batch_size: int = 64) -> None:
        self._batch_size = batch_size
        draw = torch.Generator().manual_seed(0)
        shape = (FILTERS, 3, SIDE, SIDE)
        self._weights = torch.randn(shape, generator=draw) / (3 * SIDE * SIDE) ** 0.5
        self._bias = torch.randn(FILTERS, generator=draw) / 2

    @torch.inference_mode()
    def features(self, images: Pixels) -> npt.NDArray[np.float32]:
        """The filters' answers.

        Args:
            images: uint8 RGB (images, 32, 32, 3).

        Returns:
            Float32 (images, 192).

        Raises:
            EngineError: the images have another size.
        """
        parts = [
            self._read(images[first : first + self._batch_size])
            for first in range(0, len(images), self._batch_size)
        ]
        return np.concatenate(parts)

    def _read(self, images: Pixels) -> npt.NDArray[np.float32]:
        found = torch.conv2d(as_input(images), self._weights, self._bias, padding=SIDE // 2)
        sums = (found.relu().mean(dim=(2, 3)), found.amax(dim=(2, 3)), found.amin(dim=(2, 3)))
        return torch.cat(sums, dim=1).numpy()
