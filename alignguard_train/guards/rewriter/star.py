"""How safe a reply is so far: a guard's verdict on its beginnings, chunk by chunk."""

import hashlib
import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.terms import names_concept
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.text_guard import Head

Floats = npt.NDArray[np.float64]
SAFE = 0.5
"""Probability of being safe from which a whole reply is kept."""


class PrefixScorer(Protocol):
    """A guard of beginnings of replies."""

    def safe(self, texts: Sequence[str]) -> Floats:
        """Probability that each text is safe (texts,), from 0 to 1."""
        ...


class TermScorer:
    """Finds terms: sigmoid(a - b n), n being 1 if the text names any of them.

    Args:
        terms: words and phrases.
        sure: a and b - a, so a text is safe with probability sigmoid(sure) or sigmoid(-sure).
        wrong: share of texts, drawn by their hash, whose verdict is turned round.
        seed: of that draw.
    """

    def __init__(
        self, terms: Sequence[str], *, sure: float = 6.0, wrong: float = 0.0, seed: int = 0
    ) -> None:
        self._terms, self._sure, self._wrong, self._seed = tuple(terms), sure, wrong, seed

    def safe(self, texts: Sequence[str]) -> Floats:
        """See :class:`PrefixScorer`."""
        named = np.array([names_concept(text, self._terms) for text in texts], dtype=bool)
        turned = np.array([self._drawn(text) < self._wrong for text in texts], dtype=bool)
        return 1 / (1 + np.exp(np.where(named ^ turned, self._sure, -self._sure)))

    def _drawn(self, text: str) -> float:
        digest = hashlib.blake2b(f"star {self._seed} {text}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64


class HeadScorer:
    """A trained guard's log odds above its threshold, as a probability.

    Args:
        encoder: the frozen encoder.
        head: whose score is in log odds.
        threshold: where a text is as likely safe as not.
    """

    def __init__(self, encoder: FrozenEncoder, head: Head, threshold: float) -> None:
        self._encoder, self._head, self._threshold = encoder, head, threshold

    def safe(self, texts: Sequence[str]) -> Floats:
        """See :class:`PrefixScorer`."""
        scores = self._head.scores(self._encoder.states(texts)) - self._threshold
        return 1 / (1 + np.exp(np.clip(scores, -500, 500)))


def chunk_ends(reply: str, words: int) -> list[int]:
    """Where each chunk of a reply ends, in characters.

    Args:
        reply: a text.
        words: of a chunk; the last one is shorter.

    Returns:
        Ends in order, the last being the text's own.

    Raises:
        EngineError: the reply has no word.
    """
    ends = [found.end() for found in re.finditer(r"\S+", reply)]
    if not ends:
        raise EngineError("an empty reply has no chunk to score")
    return [*(end for end in ends[words - 1 :: words] if end < ends[-1]), len(reply)]


def token_weights(
    replies: Sequence[str], ends: Sequence[Sequence[int]], scorer: PrefixScorer, words: int
) -> list[list[float]]:
    """How safe the reply is at the end of the chunk that each token is in.

    Equal beginnings are scored once.

    Args:
        replies: texts.
        ends: for each reply, where each of its tokens ends, in characters.
        scorer: of beginnings.
        words: of a chunk.

    Returns:
        For each reply a number from 0 to 1 a token.

    Raises:
        EngineError: a reply has no word.
    """
    places = [chunk_ends(reply, words) for reply in replies]
    begun = {reply[:end]: 0.0 for reply, own in zip(replies, places, strict=True) for end in own}
    scored = scorer.safe(list(begun))
    begun = {text: float(score) for text, score in zip(begun, scored, strict=True)}
    return [
        [begun[reply[: own[int(np.searchsorted(own, end))]]] for end in tokens]
        for reply, own, tokens in zip(replies, places, ends, strict=True)
    ]
