"""Scorer ``twins``: similarity of the two prompts of a pair, in meaning and in words.

Meaning is measured by the base model's text encoder (twins with equal embeddings give the same
image), or by a sentence model.
"""

from collections.abc import Sequence

import numpy as np

from alignguard_data.contracts.records import PromptPair
from alignguard_data.contracts.text import word_jaccard
from alignguard_data.engines.embedder import ClipTextEmbedder
from alignguard_data.engines.sentences import SentenceEmbedder


class _Twins:
    """A ``PairScorer`` over the unit vectors of an embedder, which a subclass chooses."""

    name = "twins"
    keys = ("cosine", "jaccard")
    _embedder: ClipTextEmbedder | SentenceEmbedder

    @property
    def version(self) -> str:
        """Identity of the embedder's model."""
        return self._embedder.version

    def score(self, pairs: Sequence[PromptPair]) -> list[dict[str, float]]:
        """Compare the two prompts of each pair.

        Args:
            pairs: prompt pairs.

        Returns:
            For each pair the cosine in [-1, 1] and the Jaccard index of the word sets in [0, 1].
        """
        if not pairs:
            return []
        unsafe = self._embedder.unit_vectors([pair.unsafe_prompt for pair in pairs])
        safe = self._embedder.unit_vectors([pair.safe_prompt for pair in pairs])
        cosines = np.clip((unsafe * safe).sum(axis=1), -1.0, 1.0)
        return [
            {
                "cosine": round(float(cosine), 6),
                "jaccard": word_jaccard(pair.unsafe_prompt, pair.safe_prompt),
            }
            for cosine, pair in zip(cosines, pairs, strict=True)
        ]


class TwinSimilarity(_Twins):
    """A ``PairScorer`` with the keys ``cosine`` (pooled CLIP embeddings) and ``jaccard`` (words).

    The arguments are those of :class:`ClipTextEmbedder`.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        encoder_subfolder: str = "text_encoder",
        tokenizer_subfolder: str = "tokenizer",
    ) -> None:
        self._embedder = ClipTextEmbedder(
            model,
            revision,
            encoder_subfolder=encoder_subfolder,
            tokenizer_subfolder=tokenizer_subfolder,
        )


class SentenceTwins(_Twins):
    """The same keys with the cosines of a sentence model.

    The arguments are those of :class:`SentenceEmbedder`.
    """

    def __init__(self, model: str, revision: str | None = None, device: str = "auto") -> None:
        self._embedder = SentenceEmbedder(model, revision, device)
