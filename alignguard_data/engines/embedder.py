"""Text embeddings from a diffusion model's CLIP text encoder.

Prompts with equal embeddings give the same image. Loads at the first prompt, from safetensors only.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.device import device_of
from alignguard_data.storage.shards import sha256_file

_BATCH = 256
_WEIGHTS = "model.safetensors"


class ClipTextEmbedder:
    """A ``TextEmbedder``: pooled CLIP embeddings.

    Args:
        model: a diffusers folder, or a hub id, with a CLIP text encoder and tokenizer.
        revision: the hub id's commit; for a folder, the hash of its weights.
        encoder_subfolder: subfolder of the text encoder.
        tokenizer_subfolder: subfolder of the tokenizer.
        device: ``auto`` (a GPU if there is one) or a torch device.

    Raises:
        EngineError: a hub id without a revision.
    """

    name = "clip-text"

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        encoder_subfolder: str = "text_encoder",
        tokenizer_subfolder: str = "tokenizer",
        device: str = "auto",
    ) -> None:
        if revision is None and not Path(model).is_dir():
            raise EngineError(f"{model} is not a folder: a hub id needs a revision")
        self._model = model
        self._revision = revision
        self._encoder_subfolder = encoder_subfolder
        self._tokenizer_subfolder = tokenizer_subfolder
        self._device = device

    @cached_property
    def version(self) -> str:
        """Hash of a folder's encoder and tokenizer files, or hub id and revision."""
        if not Path(self._model).is_dir():
            return f"{self._model}@{self._revision}"
        folders = (self._encoder_subfolder, self._tokenizer_subfolder)
        files = [
            file
            for folder in folders
            for file in sorted((Path(self._model) / folder).glob("*"))
            if file.suffix in (".safetensors", ".json", ".txt")
        ]
        if not any(file.suffix == ".safetensors" for file in files):
            raise EngineError(f"{self._model}/{folders[0]} has no {_WEIGHTS}")
        hashes = "".join(f"{file.name}{sha256_file(file)}" for file in files)
        return f"clip-text-{hashlib.sha256(hashes.encode()).hexdigest()[:12]}"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging

        where: dict[str, Any] = {"revision": self._revision} if self._revision else {}
        tokenizer = CLIPTokenizer.from_pretrained(
            self._model, subfolder=self._tokenizer_subfolder, **where
        )
        logging.disable_progress_bar()  # the room has its own
        encoder: Any = CLIPTextModel.from_pretrained(
            self._model, subfolder=self._encoder_subfolder, use_safetensors=True, **where
        )
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
                padding="max_length",
                truncation=True,
                max_length=tokenizer.model_max_length,
                return_tensors="pt",
            )
            with torch.inference_mode():
                pooled = encoder(input_ids=tokens["input_ids"].to(encoder.device)).pooler_output
            parts.append(pooled.double().cpu().numpy())
        stacked = np.concatenate(parts)
        return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
