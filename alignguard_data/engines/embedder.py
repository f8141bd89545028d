"""Text embeddings from a diffusion model's CLIP text encoder.

Prompts with equal embeddings give the same image. Loads at the first prompt, from safetensors only.
"""

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.device import device_of
from alignguard_data.engines.loading_bars import no_bars
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.text_vectors import TextVectors
from alignguard_data.storage.shards import sha256_file

if TYPE_CHECKING:
    from torch import Tensor

_WEIGHTS = "model.safetensors"


class ClipTextEmbedder(TextVectors):
    """A ``TextEmbedder``: pooled CLIP embeddings.

    Args:
        model: a diffusers folder, or a hub id, with a CLIP text encoder and tokenizer.
        revision: commit of a hub id.
        encoder_subfolder: subfolder of the text encoder.
        tokenizer_subfolder: subfolder of the tokenizer.
        device: ``auto`` (a GPU if there is one) or a torch device.

    Raises:
        EngineError: a hub id without a revision.
    """

    name = "clip-text"
    batch_size = 256

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        encoder_subfolder: str = "text_encoder",
        tokenizer_subfolder: str = "tokenizer",
        device: str = "auto",
    ) -> None:
        self._source = ModelSource(model, revision)
        self._encoder_subfolder = encoder_subfolder
        self._tokenizer_subfolder = tokenizer_subfolder
        self._device = device

    @cached_property
    def version(self) -> str:
        """Hash of a folder's encoder and tokenizer files, or hub id and revision."""
        place = self._source.folder
        if place is None:
            return self._source.identity
        folders = (self._encoder_subfolder, self._tokenizer_subfolder)
        files = [
            file
            for folder in folders
            for file in sorted((place / folder).glob("*"))
            if file.suffix in (".safetensors", ".json", ".txt")
        ]
        if not any(file.suffix == ".safetensors" for file in files):
            raise EngineError(f"{place}/{folders[0]} has no {_WEIGHTS}")
        hashes = "".join(f"{file.name}{sha256_file(file)}" for file in files)
        return f"clip-text-{hashlib.sha256(hashes.encode()).hexdigest()[:12]}"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import CLIPTextModel, CLIPTokenizer

        where = self._source.arguments
        with no_bars():
            tokenizer = CLIPTokenizer.from_pretrained(subfolder=self._tokenizer_subfolder, **where)
            encoder: Any = CLIPTextModel.from_pretrained(
                subfolder=self._encoder_subfolder, use_safetensors=True, **where
            )
        return tokenizer, encoder.eval().to(device_of(self._device))

    def _encode(self, texts: list[str]) -> "Tensor":
        tokenizer, encoder = self._loaded
        tokens = tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        )
        return encoder(input_ids=tokens["input_ids"].to(encoder.device)).pooler_output.double()
