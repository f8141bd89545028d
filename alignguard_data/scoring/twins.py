"""Scorer ``twins``: how close the two prompts of a pair are, in meaning and in words.

Meaning is judged by the base model's own text encoder: twins that it cannot tell apart would
ask it for the same picture. Weights are read from safetensors only.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignguard_data.errors import EngineError
from alignguard_data.records import PromptPair
from alignguard_data.shards import sha256_file

_BATCH = 256
_WEIGHTS = "model.safetensors"


class TwinSimilarity:
    """A ``PairScorer`` with the keys ``cosine`` (pooled CLIP embeddings) and ``jaccard`` (words).

    Args:
        model: a diffusers folder, or a hub id, with a CLIP text encoder and tokenizer.
        revision: the hub id's commit; a folder's revision is the hash of its weights.
        encoder_subfolder, tokenizer_subfolder: where the two lie in it.
    """

    name = "twins"
    keys = ("cosine", "jaccard")

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        encoder_subfolder: str = "text_encoder",
        tokenizer_subfolder: str = "tokenizer",
    ) -> None:
        if revision is None and not Path(model).is_dir():
            raise EngineError(f"{model} is not a folder: a hub id needs a revision")
        self._model = model
        self._revision = revision
        self._encoder_subfolder = encoder_subfolder
        self._tokenizer_subfolder = tokenizer_subfolder

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
            raise EngineError(f"{self._model}/{folders[0]} holds no {_WEIGHTS}")
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
        logging.disable_progress_bar()  # the room draws its own
        encoder = CLIPTextModel.from_pretrained(
            self._model, subfolder=self._encoder_subfolder, use_safetensors=True, **where
        )
        logging.enable_progress_bar()
        return tokenizer, encoder.eval()

    def score(self, pairs: Sequence[PromptPair]) -> list[dict[str, float]]:
        """Cosine in [-1, 1] and Jaccard index of the word sets in [0, 1], one dict a pair."""
        if not pairs:
            return []
        unsafe = self.embed([pair.unsafe_prompt for pair in pairs])
        safe = self.embed([pair.safe_prompt for pair in pairs])
        cosines = np.clip((unsafe * safe).sum(axis=1), -1.0, 1.0)
        return [
            {
                "cosine": round(float(cosine), 6),
                "jaccard": word_jaccard(pair.unsafe_prompt, pair.safe_prompt),
            }
            for cosine, pair in zip(cosines, pairs, strict=True)
        ]

    def embed(self, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Unit vectors, shape (len(prompts), width)."""
        import torch

        tokenizer, encoder = self._loaded
        parts = []
        for first in range(0, len(prompts), _BATCH):
            tokens = tokenizer(
                list(prompts[first : first + _BATCH]),
                padding="max_length",
                truncation=True,
                max_length=tokenizer.model_max_length,
                return_tensors="pt",
            )
            with torch.inference_mode():
                pooled = encoder(input_ids=tokens["input_ids"]).pooler_output
            parts.append(pooled.double().numpy())
        stacked = np.concatenate(parts)
        return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


def word_jaccard(one: str, other: str) -> float:
    """Share of the words of both texts that stand in each, 1.0 for two empty texts."""
    first, second = set(one.casefold().split()), set(other.casefold().split())
    together = first | second
    return len(first & second) / len(together) if together else 1.0
