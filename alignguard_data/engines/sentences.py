"""Text embeddings of a sentence model, such as MiniLM: mean pooling of the last layer.

Measures meaning independently of the base model. Loads at the first text, from safetensors only.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.device import device_of
from alignguard_data.engines.unpacked import is_packed, packed_revision, unpacked
from alignguard_data.engines.weights import folder_revision

_BATCH = 64


class SentenceEmbedder:
    """A ``TextEmbedder`` over a BERT-like sentence model with mean pooling (sentence-transformers).

    Args:
        model: a folder, a .zip archive of one, or a hub id.
        revision: the hub id's commit; for a folder or archive, its hash.
        device: ``auto`` (a GPU if there is one) or a torch device.

    Raises:
        EngineError: a hub id without a revision.
    """

    name = "sentences"

    def __init__(self, model: str, revision: str | None = None, device: str = "auto") -> None:
        if revision is None and not Path(model).is_dir() and not is_packed(model):
            raise EngineError(f"{model} is not a folder: a hub id needs a revision")
        self._model = model
        self._revision = revision
        self._device = device

    @cached_property
    def version(self) -> str:
        """Hash of a folder's or an archive's files, or hub id and revision."""
        if is_packed(self._model):
            return f"sentences-{packed_revision(self._model)}"
        if Path(self._model).is_dir():
            return f"sentences-{folder_revision(Path(self._model))}"
        return f"{self._model}@{self._revision}"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        model = str(unpacked(self._model)) if is_packed(self._model) else self._model
        where: dict[str, Any] = {"revision": self._revision} if self._revision else {}
        logging.disable_progress_bar()  # the room has its own
        tokenizer = AutoTokenizer.from_pretrained(model, **where)
        encoder: Any = AutoModel.from_pretrained(model, use_safetensors=True, **where)
        logging.enable_progress_bar()
        return tokenizer, encoder.eval().to(device_of(self._device))

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors, shape (len(texts), width)."""
        return self.unit_vectors(texts).astype(np.float32)

    def unit_vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Float64 unit vectors, before rounding to float32."""
        import torch

        tokenizer, encoder = self._loaded
        parts = []
        for first in range(0, len(texts), _BATCH):
            tokens = tokenizer(
                list(texts[first : first + _BATCH]),
                padding=True,
                truncation=True,
                return_tensors="pt",
            ).to(encoder.device)
            with torch.inference_mode():
                hidden = encoder(**tokens).last_hidden_state.double()
            counted = tokens["attention_mask"].unsqueeze(-1).double()
            parts.append(((hidden * counted).sum(1) / counted.sum(1)).cpu().numpy())
        stacked = np.concatenate(parts)
        return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
