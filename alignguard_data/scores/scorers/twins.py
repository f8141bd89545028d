"""Scorer ``twins``: similarity of the two prompts of a pair, in meaning and in words.

Meaning is measured by the base model's text encoder (twins with equal embeddings give the same
image), or by a sentence model.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.records import PromptPair
from alignguard_data.contracts.text import word_jaccard
from alignguard_data.engines.embedder import ClipTextEmbedder
from alignguard_data.engines.sentences import SentenceEmbedder


class TwinSimilarity:
    """A ``PairScorer`` with the keys ``cosine`` (pooled CLIP embeddings) and ``jaccard`` (words).

    The arguments are those of :class:`ClipTextEmbedder`.
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
        self._embedder = ClipTextEmbedder(
            model,
            revision,
            encoder_subfolder=encoder_subfolder,
            tokenizer_subfolder=tokenizer_subfolder,
        )

    @property
    def version(self) -> str:
        """Identity of the text encoder."""
        return self._embedder.version

    def score(self, pairs: Sequence[PromptPair]) -> list[dict[str, float]]:
        """Compare the two prompts of each pair.

        Args:
            pairs: prompt pairs.

        Returns:
            For each pair the cosine in [-1, 1] and the Jaccard index of the word sets in [0, 1].
        """
        return _compared(pairs, self._embedder.unit_vectors)


class SentenceTwins:
    """The same keys with the cosines of a sentence model.

    The arguments are those of :class:`SentenceEmbedder`.
    """

    name = "twins"
    keys = ("cosine", "jaccard")

    def __init__(self, model: str, revision: str | None = None, device: str = "auto") -> None:
        self._embedder = SentenceEmbedder(model, revision, device)

    @property
    def version(self) -> str:
        """Identity of the sentence model."""
        return self._embedder.version

    def score(self, pairs: Sequence[PromptPair]) -> list[dict[str, float]]:
        """Compare the two prompts of each pair.

        Args:
            pairs: prompt pairs.

        Returns:
            For each pair the cosine in [-1, 1] and the Jaccard index of the word sets in [0, 1].
        """
        return _compared(pairs, self._embedder.unit_vectors)


def _compared(
    pairs: Sequence[PromptPair], embed: Callable[[Sequence[str]], npt.NDArray[np.float64]]
) -> list[dict[str, float]]:
    if not pairs:
        return []
    unsafe = embed([pair.unsafe_prompt for pair in pairs])
    safe = embed([pair.safe_prompt for pair in pairs])
    cosines = np.clip((unsafe * safe).sum(axis=1), -1.0, 1.0)
    return [
        {
            "cosine": round(float(cosine), 6),
            "jaccard": word_jaccard(pair.unsafe_prompt, pair.safe_prompt),
        }
        for cosine, pair in zip(cosines, pairs, strict=True)
    ]
