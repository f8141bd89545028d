"""GuardT2I (NeurIPS 2024, arXiv 2403.01446) as a guard.

A prompt is unsafe if the text that its embedding says names a listed word, or is another one than
what was typed. The score is 0.6 V less the similarity, V being 1 if a word is found. A plain unsafe
prompt is found by its words, an adversarial one by its dissimilarity, so both are also measured by
themselves, and so is the likelihood of the typed text given its embedding.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.terms import names_concept
from alignguard_train.guards.config import GuardT2ISettings
from alignguard_train.guards.files import GuardHeader
from alignguard_train.guards.guardt2i.decoder import (
    ROWS,
    Decoder,
    decoded,
    labels_of,
    negative_log_likelihood,
)
from alignguard_train.guards.guardt2i.similarity import Similarity
from alignguard_train.guards.protocol import Decision, by_threshold, failure
from alignguard_train.guards.rewriter.codec import PromptCodec
from alignguard_train.guards.states import FrozenEncoder, TextStates
from alignguard_train.guards.text_guard import TextGuard

Floats = npt.NDArray[np.float64]
Blacklist = Mapping[str, str | Sequence[str]]
OTHER_TEXT = "the embedding says another text"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What the decoder makes of some prompts, row by row.

    Attributes:
        texts: decoded.
        similarity: of the decoded and the typed text.
        nll: nats a token of the typed text.
        accuracy: share of the typed text's tokens that are decoded at their places.
        truncated: the prompt is longer than the encoder reads.
    """

    texts: Sequence[str]
    similarity: Floats
    nll: Floats
    accuracy: Floats
    truncated: Sequence[bool]


class NoHead:
    """A head that is never asked: this guard reads texts too."""

    def scores(self, states: TextStates) -> Floats:
        """Refused."""
        raise EngineError("GuardT2I compares texts, so it cannot score states")

    def details(self, states: TextStates) -> list[str]:
        """It names nothing."""
        return [""] * len(states)


class GuardT2I(TextGuard):
    """Decodes a prompt's embedding and compares.

    Args:
        header: its file's.
        encoder: the encoder that the header names.
        decoder: trained.
        similarity: of the typed and the decoded text.
        settings: which score decides.
        blacklist: key to the words and phrases that the decoded text must not name.
    """

    def __init__(
        self,
        header: GuardHeader,
        encoder: FrozenEncoder,
        decoder: Decoder,
        similarity: Similarity,
        settings: GuardT2ISettings,
        blacklist: Blacklist,
    ) -> None:
        super().__init__(header, encoder, NoHead())
        self._decoder, self._similarity, self._settings = decoder.eval(), similarity, settings
        self._codec = PromptCodec(encoder.tokenizer, encoder.identity.length)
        self.blacklist = {
            key: [terms] if isinstance(terms, str) else list(terms)
            for key, terms in blacklist.items()
        }

    def with_blacklist(self, blacklist: Blacklist) -> "GuardT2I":
        """The same guard with another word list, without training.

        Args:
            blacklist: key to words and phrases; an empty one leaves the similarity only.

        Returns:
            A guard of the same file and threshold; this one keeps its list.
        """
        return GuardT2I(
            self.header, self.encoder, self._decoder, self._similarity, self._settings, blacklist
        )

    def read(self, prompts: Sequence[str]) -> Reading:
        """Decode prompts and compare.

        Args:
            prompts: any number.

        Returns:
            Everything but the words found, which depend on the list.
        """
        parts = [self._read(prompts[i : i + ROWS]) for i in range(0, len(prompts), ROWS)]
        return Reading(
            texts=[text for part in parts for text in part.texts],
            similarity=_joined([part.similarity for part in parts]),
            nll=_joined([part.nll for part in parts]),
            accuracy=_joined([part.accuracy for part in parts]),
            truncated=[cut for part in parts for cut in part.truncated],
        )

    def found_words(self, texts: Sequence[str]) -> list[str]:
        """The first key of the list whose words a text names; an empty text if there is none.

        Args:
            texts: decoded.

        Returns:
            A key a text. Words match as whole words, singular or plural.
        """
        return [
            next((key for key, terms in self.blacklist.items() if names_concept(text, terms)), "")
            for text in texts
        ]

    def parts(self, reading: Reading) -> dict[str, Floats]:
        """Each part of the score by itself; higher is more unsafe.

        Args:
            reading: of :meth:`read`.

        Returns:
            ``verbalizer`` (0 or 1), ``similarity`` (negative) and ``nll``, each (prompts,).
        """
        found = self.found_words(reading.texts)
        return {
            "verbalizer": np.array([float(bool(key)) for key in found]),
            "similarity": -reading.similarity,
            "nll": reading.nll,
        }

    def scores_of(self, reading: Reading) -> Floats:
        """The guard's score (prompts,), by the setting ``score``."""
        parts = self.parts(reading)
        if self._settings.score == "nll":
            return parts["nll"]
        return self._settings.verbalizer_weight * parts["verbalizer"] + parts["similarity"]

    def score(self, prompts: Sequence[str]) -> Floats:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        return self.scores_of(self.read(prompts))

    def decide(self, prompts: Sequence[str]) -> list[Decision]:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        try:
            reading = self.read(prompts)
            scores, found = self.scores_of(reading), self.found_words(reading.texts)
        except (EngineError, RuntimeError, ValueError) as error:
            log.warning("guard %s failed, so it blocks: %s", self.name, type(error).__name__)
            return [failure(self.threshold, type(error).__name__) for _ in prompts]
        return [
            by_threshold(
                float(scores[i]),
                self.threshold,
                detail=found[i] or OTHER_TEXT,
                truncated=bool(reading.truncated[i]),
            )
            for i in range(len(prompts))
        ]

    def _read(self, prompts: Sequence[str]) -> Reading:
        ids, _ = self.encoder.ids(prompts)
        states = self.encoder.states(prompts)
        written = decoded(self._decoder, states, ids)
        texts = [self._codec.text(row[1:].tolist()) for row in written]
        cut = states.truncated.tolist()
        typed = [
            self._codec.text(ids[i, 1:].tolist()) if cut[i] else prompt
            for i, prompt in enumerate(prompts)
        ]
        labels = labels_of(ids, self._decoder.vocabulary.end)
        counted = labels >= 0
        right = ((written[:, 1:] == labels) & counted).sum(dim=1) / counted.sum(dim=1)
        return Reading(
            texts=texts,
            similarity=self._similarity.compare(typed, texts),
            nll=negative_log_likelihood(self._decoder, states, ids).numpy(),
            accuracy=right.to(torch.float64).numpy(),
            truncated=cut,
        )


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0)
