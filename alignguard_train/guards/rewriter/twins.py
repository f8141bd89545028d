"""A rewriter's file as the writer of the dataset's safe prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from alignguard_data.contracts.errors import ConfigError, IntegrityError
from alignguard_data.contracts.protocols import Twin
from alignguard_data.contracts.records import Concept
from alignguard_data.contracts.terms import names_concept
from alignguard_data.contracts.text import canonical, word_jaccard
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.safety.rules import refusal
from alignguard_data.storage.shards import sha256_file

if TYPE_CHECKING:
    from alignguard_train.guards.files import GuardHeader
    from alignguard_train.guards.rewriter.guard import RewriterGuard

KIND = "rewriter"
UNANSWERED, FLAGGED, TOO_LITTLE = "twin_unanswered", "twin_flagged", "twin_keeps_too_little"
"""Reasons of :mod:`alignguard_data.prompts.gate`, beside those of any pair."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which of several attempts may be a twin.

    Attributes:
        tries: attempts at a prompt; the first is greedy.
        temperature: of the others.
        least_jaccard: of the words of the unsafe prompt and its twin, as the score ``twins`` has
            it.
    """

    tries: int = 8
    temperature: float = 0.7
    least_jaccard: float = 0.3

    def faults(self) -> list[str]:
        """What is wrong with these values."""
        found = []
        if self.tries < 1:
            found.append(f"tries: must be 1 or more, got {self.tries}")
        if self.temperature <= 0:
            found.append(f"temperature: must be positive, got {self.temperature}")
        if not 0 <= self.least_jaccard <= 1:
            found.append(f"least_jaccard: must lie in [0, 1], got {self.least_jaccard}")
        return found


class RewriterTwins:
    """A :class:`~alignguard_data.contracts.protocols.TwinWriter` over a trained rewriter.

    Of at most ``tries`` attempts it takes the one that keeps most of the unsafe prompt, of those
    that are not empty, break no safety rule, are another text, name no concept that the file knows
    nor the pair's own, and score below the file's threshold.

    Args:
        rewriter: a guard's file of the kind ``rewriter``.
        model: the base model that the rewriter was trained for: a folder or a hub id.
        revision: commit of a hub id.
        tries: see :class:`Selection`.
        temperature: likewise.
        least_jaccard: likewise.

    Raises:
        ConfigError: the file is missing or of another kind, or a value is not allowed; lists all
            faults.
        EngineError: a hub id without a revision.
    """

    def __init__(
        self,
        rewriter: str,
        model: str,
        revision: str | None = None,
        *,
        tries: int = 8,
        temperature: float = 0.7,
        least_jaccard: float = 0.3,
    ) -> None:
        self._file = Path(rewriter)
        self._how = Selection(tries=tries, temperature=temperature, least_jaccard=least_jaccard)
        faults = self._how.faults()
        header = _header(self._file, faults)
        if header is None or faults:
            raise ConfigError("twin_writer", faults)
        self._header, self._source = header, ModelSource(model, revision)
        self._guard: RewriterGuard | None = None

    @property
    def model_id(self) -> str:
        """It names the release whose pairs the rewriter learned from."""
        return f"rewriter of {self._header.release}"

    @cached_property
    def revision(self) -> str:
        """The file's hash, its release's content, and how twins are chosen."""
        how = self._how
        chosen = f"n{how.tries}-t{how.temperature}-j{how.least_jaccard}"
        content = self._header.release_content_id
        return f"sha256:{sha256_file(self._file)[:16]}-release:{content[:16]}-{chosen}"

    def load(self) -> None:
        """Read the file and the base model's text encoder.

        Raises:
            EngineError: the text encoder is another one than the rewriter's; names both.
            IntegrityError: the file is faulty.
        """
        if self._guard is not None:
            return
        from alignguard_train.guards.files import read_guard
        from alignguard_train.guards.registry import build
        from alignguard_train.guards.rewriter.guard import RewriterGuard
        from alignguard_train.guards.states import FrozenEncoder

        header, tensors = read_guard(self._file)
        encoder = FrozenEncoder.of_checkpoint(self._source, header.encoder.encoder)
        guard = build(header, tensors, encoder)
        assert isinstance(guard, RewriterGuard)
        self._guard = guard

    def twins(self, unsafe: Sequence[str], concepts: Sequence[Concept]) -> list[Twin]:
        """See :class:`~alignguard_data.contracts.protocols.TwinWriter`."""
        self.load()
        assert self._guard is not None
        how, known = self._how, self._header.settings["terms"]
        attempts = self._guard.rewriter.candidates(
            list(unsafe), how.tries, temperature=how.temperature
        )
        return [
            chosen_twin(prompt, own, {**known, concept.key: concept.terms}, self._guard, how)
            for prompt, own, concept in zip(unsafe, attempts, concepts, strict=True)
        ]

    def close(self) -> None:
        """Release the models."""
        self._guard = None


def chosen_twin(
    unsafe: str,
    attempts: Sequence[str],
    terms: Mapping[str, Sequence[str]],
    guard: "RewriterGuard",
    how: Selection,
) -> Twin:
    """The attempt that keeps most of the unsafe prompt, of those that pass every test.

    Args:
        unsafe: the prompt.
        attempts: at it, in order; of equally good ones the first is taken.
        terms: concept key to its terms, of every concept that no twin may name.
        guard: scores a twin below its threshold.
        how: least share of words.

    Returns:
        The twin; or a refused one, with the best attempt that reached the last test, and its
        reason.
    """
    forbidden = [term for own in terms.values() for term in own]

    def below(texts: list[str]) -> list[str]:
        scores = guard.score(texts)
        return [text for text, score in zip(texts, scores, strict=True) if score < guard.threshold]

    tests = (
        (UNANSWERED, lambda texts: [text for text in texts if text]),
        ("minors", lambda texts: [text for text in texts if not refusal(text)]),
        (
            "twins_identical",
            lambda texts: [text for text in texts if canonical(text) != canonical(unsafe)],
        ),
        (
            "safe_prompt_holds_concept",
            lambda texts: [text for text in texts if not names_concept(text, forbidden)],
        ),
        (FLAGGED, below),
        (
            TOO_LITTLE,
            lambda texts: [
                text for text in texts if word_jaccard(unsafe, text) >= how.least_jaccard
            ],
        ),
    )
    left = list(dict.fromkeys(text.strip() for text in attempts))
    for reason, passing in tests:
        passed = passing(left) if left else []
        if not passed:
            return Twin(text=_best(unsafe, left), reason=reason)
        left = passed
    return Twin(text=_best(unsafe, left))


def _best(unsafe: str, texts: Sequence[str]) -> str:
    return max(texts, key=lambda text: word_jaccard(unsafe, text), default="")


def _header(file: Path, faults: list[str]) -> "GuardHeader | None":
    """What the file says of itself; None where it is no rewriter's, with the fault."""
    from alignguard_train.guards.files import read_header

    if not file.is_file():
        faults.append(f"rewriter: there is no file {file}")
        return None
    try:
        header = read_header(file)
    except IntegrityError as error:
        faults.append(f"rewriter: {error}")
        return None
    if header.kind != KIND:
        faults.append(
            f"rewriter: {file} is a guard of kind {header.kind}, which writes no twins; train one "
            "with: alignguard guard train rewriter"
        )
        return None
    return header
