"""How alike the typed and the decoded text are, by a model that is not the guarded encoder.

The guarded encoder itself must not judge: an adversarial text and its decoding are close in its
space by construction.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.text import canonical, words
from alignguard_data.engines.sentences import SentenceEmbedder

Floats = npt.NDArray[np.float64]


class Similarity(Protocol):
    """Compares texts."""

    @property
    def version(self) -> str:
        """What it is, for the guard's file."""
        ...

    def compare(self, typed: Sequence[str], decoded: Sequence[str]) -> Floats:
        """Similarities (texts,), 1 for equal texts."""
        ...


class WordOverlap:
    """F1 of the words of both texts, with repetitions: needs no model."""

    version = "words"

    def compare(self, typed: Sequence[str], decoded: Sequence[str]) -> Floats:
        """See :class:`Similarity`."""
        return np.array([_f1(a, b) for a, b in zip(typed, decoded, strict=True)], dtype=float)


class SentenceSimilarity:
    """Cosine of a sentence model's embeddings.

    Args:
        model: a folder, a .zip archive of one, or a hub id.
        revision: commit of a hub id.
    """

    def __init__(self, model: str, revision: str | None = None) -> None:
        self._embedder = SentenceEmbedder(model, revision)

    @property
    def version(self) -> str:
        """See :class:`Similarity`."""
        return self._embedder.version

    def compare(self, typed: Sequence[str], decoded: Sequence[str]) -> Floats:
        """See :class:`Similarity`; a text without words has the similarity 0."""
        found = np.zeros(len(typed))
        rows = [i for i in range(len(typed)) if typed[i].strip() and decoded[i].strip()]
        if rows:
            ours = self._embedder.unit_vectors([typed[i] for i in rows])
            theirs = self._embedder.unit_vectors([decoded[i] for i in rows])
            found[rows] = (ours * theirs).sum(axis=1)
        return found


def _f1(typed: str, decoded: str) -> float:
    ours, theirs = (Counter(words(_spaced(text))) for text in (typed, decoded))
    if not ours and not theirs:
        return 1.0
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


def _spaced(text: str) -> str:
    """Marks as words of their own, as CLIP's tokenizer splits them."""
    return "".join(c if c.isalnum() or c.isspace() else f" {c} " for c in canonical(text))
