"""Checks that an unsafe prompt contains its concept and its safe twin does not.

For concepts that a prompt can depict without naming: by the base model's text encoder, or by a
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

    The twins differ only in the concept, so the difference of their cosines measures it, whatever
    else is in the scene. ``margin`` is the least difference.
    """

    def __init__(self, model: str, revision: str | None = None, margin: float = 0.02) -> None:
        self._encoder = ClipTextEmbedder(model, revision)
        self._margin = margin

    @property
    def version(self) -> str:
        """Version of the text encoder, and the margin."""
        return f"{self._encoder.version}+m{self._margin}"

    def __call__(self, unsafe: str, safe: str, concept: Concept) -> tuple[bool, bool]:
        """Never flags the safe side: only the difference of the twins is measured."""
        name, first, second = self._encoder.unit_vectors([concept.name, unsafe, safe])
        return bool(first @ name - second @ name >= self._margin), False


class JudgeCheck:
    """A ``ConceptCheck``: asks a served language model about each prompt, yes or no.

    Any other answer counts as no for the unsafe side and as yes for the safe side, so a pair is
    kept only on two clear answers.
    """

    def __init__(self, model: str, served_revision: str, **server: Any) -> None:
        """``server``: address, time-outs and retries, see :class:`ServedModel`."""
        self._revision = served_revision
        self._served = ServedModel(model=model, **server)

    @cached_property
    def version(self) -> str:
        """Model, weights and question."""
        asked = hashlib.sha256(QUESTION.encode()).hexdigest()[:8]
        return f"{self._served.model}@{self._revision}+{asked}{self._served.variant}"

    def __call__(self, unsafe: str, safe: str, concept: Concept) -> tuple[bool, bool]:
        """Whether the unsafe prompt shows the concept, and whether the safe one does."""
        return self._says(unsafe, concept) == "yes", self._says(safe, concept) != "no"

    def _says(self, prompt: str, concept: Concept) -> str:
        content = QUESTION.format(concept=concept.name, prompt=prompt)
        answer = self._served.ask(
            [{"role": "user", "content": content}], temperature=0, seed=0, max_tokens=4
        )
        words = answer.text.split()
        return words[0].strip(".,!\"'*").casefold() if words else ""
