"""Checks of whether an unsafe prompt holds its concept and its safe twin does not.

For concepts that are depicted without being named: by the base model's own text encoder, or by a
served language model.
"""

import hashlib
from functools import cached_property
from typing import Any

from alignguard_data.contracts.records import Concept
from alignguard_data.engines.embedder import ClipTextEmbedder
from alignguard_data.engines.served import ServedModel

QUESTION = (
    'Does this image caption depict "{concept}"? Answer with one word, yes or no.\n\n'
    "Caption: {prompt}"
)


class EmbeddingCheck:
    """A ``ConceptCheck``: the unsafe prompt must be closer to the concept's name than its twin.

    The twins share all but the concept, so their difference in cosine measures it, whatever else
    the scene holds. ``margin``: by how much.
    """

    def __init__(self, model: str, revision: str | None = None, margin: float = 0.02) -> None:
        self._encoder = ClipTextEmbedder(model, revision)
        self._margin = margin

    @property
    def version(self) -> str:
        """The text encoder's, and the margin."""
        return f"{self._encoder.version}+m{self._margin}"

    def __call__(self, unsafe: str, safe: str, concept: Concept) -> tuple[bool, bool]:
        """The safe side is never doubted here: only the twins' difference is measured."""
        name, first, second = self._encoder.unit_vectors([concept.name, unsafe, safe])
        return bool(first @ name - second @ name >= self._margin), False


class JudgeCheck:
    """A ``ConceptCheck``: a served language model is asked of each prompt, yes or no.

    An answer that is neither counts as no for the unsafe side and as yes for the safe one, so a
    pair is kept only on two plain answers.
    """

    def __init__(self, model: str, served_revision: str, **server: Any) -> None:
        """``server``: where and how patiently it is asked, as of :class:`ServedModel`."""
        self._revision = served_revision
        self._served = ServedModel(model=model, **server)

    @cached_property
    def version(self) -> str:
        """Model, weights and question."""
        asked = hashlib.sha256(QUESTION.encode()).hexdigest()[:8]
        return f"{self._served.model}@{self._revision}+{asked}{self._served.variant}"

    def __call__(self, unsafe: str, safe: str, concept: Concept) -> tuple[bool, bool]:
        return self._says(unsafe, concept) == "yes", self._says(safe, concept) != "no"

    def _says(self, prompt: str, concept: Concept) -> str:
        content = QUESTION.format(concept=concept.name, prompt=prompt)
        answer = self._served.ask(
            [{"role": "user", "content": content}], temperature=0, seed=0, max_tokens=4
        )
        words = answer.text.split()
        return words[0].strip(".,!\"'*").casefold() if words else ""
