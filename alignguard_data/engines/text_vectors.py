"""Texts as unit vectors, batch by batch: what every text embedder shares."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor


class TextVectors(ABC):
    """A ``TextEmbedder`` whose subclass encodes one batch of texts."""

    batch_size: int

    @abstractmethod
    def _encode(self, texts: list[str]) -> "Tensor":
        """Float64 vectors (len(texts), width) of any length, without gradient."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: at least one.

        Returns:
            Unit vectors, float32 (len(texts), width).
        """
        return self.unit_vectors(texts).astype(np.float32)

    def unit_vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Embed texts before the rounding to float32, for exact differences of cosines.

        Args:
            texts: at least one.

        Returns:
            Unit vectors, float64 (len(texts), width).
        """
        import torch

        with torch.inference_mode():
            parts = [
                self._encode(list(texts[first : first + self.batch_size])).cpu().numpy()
                for first in range(0, len(texts), self.batch_size)
            ]
        stacked = np.concatenate(parts)
        return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
