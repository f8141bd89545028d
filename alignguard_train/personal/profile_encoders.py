"""Turns users into vectors: one-hot attributes and bans, a CLIP sentence, or a language model.

A vector never depends on the other users of a call. Statistics for standardising are taken from the
seen users by the trainer and stored in the adapter.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.device import device_of
from alignguard_data.engines.embedder import ClipTextEmbedder
from alignguard_data.engines.loading_bars import no_bars
from alignguard_data.engines.model_source import ModelSource
from alignguard_train.personal.attributes import AGE_GROUPS, ATTRIBUTES
from alignguard_train.personal.judged_bans import sentence
from alignguard_train.personal.records import User

Vectors = npt.NDArray[np.float32]


class ProfileEncoder(Protocol):
    """Encodes users; the adapter reads the vectors."""

    name: str
    standardised: bool
    """Whether vectors are standardised by the seen users' mean and deviation."""

    @property
    def version(self) -> str:
        """Changes whenever the same user could get another vector."""
        ...

    def encode(self, users: Sequence[User]) -> Vectors:
        """Float32 (users, width)."""
        ...


class MultiHot:
    """A bit per category that is banned, then one-hot age group, gender, religion and health."""

    name = "multihot"
    standardised = False
    version = "multihot-1"

    def encode(self, users: Sequence[User]) -> Vectors:
        """Encode users as bits.

        Args:
            users: who all know the same categories.

        Returns:
            Float32 (users, categories + 25).

        Raises:
            EngineError: the users know different categories.
        """
        if len({(*sorted((*user.banned, *user.allowed)),) for user in users}) > 1:
            raise EngineError("users with different categories cannot be encoded together")
        rows = []
        for user in users:
            banned = [one in user.banned for one in sorted((*user.banned, *user.allowed))]
            group = [user.age_group == one.name for one in AGE_GROUPS]
            rest = [
                getattr(user, name) == value
                for name, values in ATTRIBUTES.items()
                for value in values
            ]
            rows.append([*banned, *group, *rest])
        return np.asarray(rows, dtype=np.float32)


def in_words(user: User) -> str:
    """The user's profile, what is forbidden and what is allowed, as one text."""
    forbidden, allowed = (", ".join(names) or "nothing" for names in (user.banned, user.allowed))
    return f"forbidden: {forbidden}; allowed: {allowed}; {sentence(user)}"


class ClipText:
    """Pooled CLIP embedding of the profile in words; bans come first, as CLIP truncates."""

    name = "clip_text"
    standardised = True

    def __init__(self, model: str, revision: str | None = None, device: str = "auto") -> None:
        self._embedder = ClipTextEmbedder(model, revision, device=device)

    @property
    def version(self) -> str:
        """Of the text encoder."""
        return self._embedder.version

    def encode(self, users: Sequence[User]) -> Vectors:
        """Unit vectors, float32 (users, width)."""
        return self._embedder.embed([in_words(user) for user in users])


class HfLLM:
    """Mean over the tokens of a language model's last layer, in float32.

    The published code sums over tokens and casts to float16, so a vector's length grows with the
    text's, up to overflow. PSA takes Qwen2.5-7B-Instruct, whose width is 3584.

    Args:
        model: folder, packed file or hub id of a causal language model.
        revision: commit of a hub id.
        device: ``auto`` (a GPU if there is one) or a torch device.
        batch_size: texts per forward pass.
    """

    name = "hf_llm"
    standardised = True

    def __init__(
        self, model: str, revision: str | None = None, device: str = "auto", batch_size: int = 8
    ) -> None:
        self._source = ModelSource(model, revision)
        self._device, self._batch_size = device, batch_size

    @property
    def version(self) -> str:
        """Name and revision of the model."""
        return self._source.identity

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModel, AutoTokenizer

        where = self._source.arguments
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(**where)
            network: Any = AutoModel.from_pretrained(
                use_safetensors=True, dtype=torch.float32, **where
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        return tokenizer, network.eval().to(device_of(self._device))

    def encode(self, users: Sequence[User]) -> Vectors:
        """Take the mean over each text's own tokens.

        Args:
            users: any number.

        Returns:
            Float32 (users, width).

        Raises:
            EngineError: the model gives a vector that is not finite.
        """
        texts = [in_words(user) for user in users]
        size = self._batch_size
        parts = [self._means(texts[i : i + size]) for i in range(0, len(texts), size)]
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise EngineError(f"{self._source.model_id} gives vectors that are not finite")
        return found

    def _means(self, texts: list[str]) -> Vectors:
        import torch

        tokenizer, network = self._loaded
        tokens = tokenizer(texts, padding=True, return_tensors="pt").to(network.device)
        with torch.inference_mode():
            hidden = network(**tokens).last_hidden_state.float()
        counted = tokens["attention_mask"].unsqueeze(-1).float()
        return ((hidden * counted).sum(1) / counted.sum(1)).cpu().numpy()


def statistics(vectors: Vectors, *, standardised: bool) -> tuple[Vectors, Vectors]:
    """Mean and deviation of the seen users' vectors.

    Zeros and ones where the encoder is not standardised; a deviation of 0 counts as 1.

    Args:
        vectors: of the seen users (users, width).
        standardised: of the encoder.

    Returns:
        Mean and deviation, each (width,), float32.
    """
    width = vectors.shape[1]
    if not standardised:
        return np.zeros(width, np.float32), np.ones(width, np.float32)
    deviation = vectors.astype(np.float64).std(axis=0)
    # A value that all seen users share carries no information; rounding must not blow it up.
    deviation[deviation < 1e-6] = 1.0
    return vectors.astype(np.float64).mean(axis=0).astype(np.float32), deviation.astype(np.float32)
