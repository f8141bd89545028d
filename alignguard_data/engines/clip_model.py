"""A CLIP model from transformers: unit-length image and text embeddings, in batches.

Shared by the scorers that use CLIP. Loads at the first image, from safetensors only, without
torchvision.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Pixels
from alignguard_data.engines.device import device_of
from alignguard_data.engines.loading_bars import no_bars
from alignguard_data.engines.model_source import ModelSource

if TYPE_CHECKING:
    from torch import Tensor

Vectors = npt.NDArray[np.float32]


class ClipModel:
    """A CLIP model that loads its weights at the first use.

    Args:
        model: folder or hub id of a CLIP model.
        revision: commit of a hub id.
        device: ``auto`` (a GPU if there is one) or a torch device.
        batch_size: images or texts per forward pass.

    Raises:
        EngineError: a hub id without a revision.
    """

    def __init__(
        self, model: str, revision: str | None = None, device: str = "auto", batch_size: int = 32
    ) -> None:
        self._source = ModelSource(model, revision)
        self._device, self._batch_size = device, batch_size

    @cached_property
    def identity(self) -> str:
        """Name and revision, never a path of this machine."""
        return self._source.identity

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        where = self._source.arguments
        try:
            with no_bars():
                network: Any = CLIPModel.from_pretrained(use_safetensors=True, **where)
                processor = CLIPImageProcessorPil.from_pretrained(**where)
                tokenizer = CLIPTokenizer.from_pretrained(**where)
        except (OSError, ValueError) as error:
            raise EngineError(f"{self._source.model} cannot be loaded as CLIP: {error}") from error
        device = device_of(self._device)
        return network.eval().to(device), processor, tokenizer

    def images(self, images: Pixels) -> Vectors:
        """Embed images.

        Args:
            images: uint8 RGB (images, height, width, 3), at least one.

        Returns:
            Unit vectors, float32 (images, width).

        Raises:
            EngineError: the model cannot be loaded.
        """
        import torch

        network, processor, _ = self._loaded
        parts = []
        for pixels in pixel_batches(images, processor, self._batch_size):
            with torch.inference_mode():
                found = network.get_image_features(pixel_values=pixels.to(network.device))
            parts.append(_unit(found))
        return np.concatenate(parts)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts.

        Args:
            texts: at least one; the end of a text that is too long for the model is cut off.

        Returns:
            Unit vectors, float32 (len(texts), width).

        Raises:
            EngineError: the model cannot be loaded.
        """
        import torch

        network, _, tokenizer = self._loaded
        parts = []
        for first in range(0, len(texts), self._batch_size):
            tokens = tokenizer(
                list(texts[first : first + self._batch_size]),
                padding=True,
                truncation=True,
                max_length=network.config.text_config.max_position_embeddings,
                return_tensors="pt",
            ).to(network.device)
            with torch.inference_mode():
                found = network.get_text_features(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                )
            parts.append(_unit(found))
        return np.concatenate(parts)


def pixel_batches(images: Pixels, processor: Any, rows: int) -> Iterator["Tensor"]:
    """Preprocess images with CLIP's image processor, batch by batch.

    Args:
        images: uint8 RGB (images, height, width, 3).
        processor: an image processor of transformers.
        rows: images of a batch.

    Yields:
        Float32 (at most rows, 3, side, side), normalised as the processor's config says.
    """
    for first in range(0, len(images), rows):
        part = list(images[first : first + rows])
        yield processor(images=part, return_tensors="pt")["pixel_values"]


def _unit(found: Any) -> Vectors:
    # transformers 5 returns an output object, earlier versions a tensor.
    tensor = getattr(found, "pooler_output", found).float()
    return (tensor / tensor.norm(dim=-1, keepdim=True)).cpu().numpy()
