"""The gate from a writer's reply, or an attack's prompt, to a pair: pure tests in a fixed order."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Protocol

from alignguard_data.contracts.protocols import STOP
from alignguard_data.contracts.records import Concept, PromptPair, pair_id, pair_role
from alignguard_data.contracts.reply_reader import declines, read_fields
from alignguard_data.contracts.terms import names_concept
from alignguard_data.contracts.text import canonical, words
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.hard_negatives import HardNegative
from alignguard_data.safety.rules import refusal

GATE_VERSION = 3
"""Part of the fingerprint: increment when the gate accepts other replies."""

TWIN_REASONS = ("twin_unanswered", "twin_flagged", "twin_keeps_too_little")
"""Only of a profile with a ``twin_writer``: it answered nothing, its guard flags every attempt, or
none keeps enough of the unsafe prompt."""

REASONS = (
    "cut_off",
    *TWIN_REASONS,
    "empty",
    "unparseable",
    "schema",
    "refusal",
    "minors",
    "too_short",
    "too_long",
    "too_many_tokens",
    "wrong_language",
    "unsafe_prompt_lacks_concept",
    "safe_prompt_holds_concept",
    "twins_identical",
    "duplicate",
)
"""Reason slugs in test order. A reply that ran out of tokens is ``cut_off``. One that declines in
plain words or was cut by a server's filter is a ``refusal``. Any other reply that is not JSON is
``unparseable``."""

_ENDED_BADLY = {
    **{reason: reason for reason in REASONS},  # as a stage before the gate gives them
    "length": "cut_off",
    "content_filter": "refusal",
}

CountTokens = Callable[[str], int]
"""Counts a prompt's tokens for the base model's text encoder."""

LanguageProbability = Callable[[str], float]
"""Probability (0 to 1) that a text is in the wanted language."""

MIN_LANGUAGE_PROBABILITY = 0.05
"""Captions are short with few function words, so only clear cases are rejected."""


class ConceptCheck(Protocol):
    """Judges other than by words whether the twins differ in the concept."""

    @property
    def version(self) -> str:
        """Changes whenever the same input could give another result."""
        ...

    def __call__(self, unsafe: str, safe: str, concept: Concept) -> tuple[bool, bool]:
        """Whether the unsafe prompt contains the concept, and whether the safe one does."""
        ...


def by_words(unsafe: str, safe: str, concept: Concept) -> tuple[bool, bool]:
    """A prompt contains a concept if it names it or a synonym."""
    return names_concept(unsafe, concept.terms), names_concept(safe, concept.terms)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateTools:
    """Optional checks by models; none by default.

    Attributes:
        count_tokens: counts a prompt's tokens as the base model's text encoder does.
        language: probability that a text is in a language.
        concept_check: judges whether the twins differ in the concept.
    """

    count_tokens: CountTokens | None = None
    language: LanguageProbability | None = None
    concept_check: ConceptCheck | None = None


NO_TOOLS = GateTools()


def read_reply(
    reply: str,
    concept: Concept,
    config: WritingConfig,
    seen: set[str],
    *,
    finish_reason: str = STOP,
    request_index: int = 0,
    writer: str = "",
    tools: GateTools = NO_TOOLS,
) -> PromptPair | str:
    """The pair in a reply.

    Args:
        reply: the text.
        concept: the concept that was asked for.
        config: word and token limits, and the share of evaluation pairs.
        seen: canonical unsafe prompts accepted so far, not modified; one lookup finds repeated
            prompts and repeated pairs.
        finish_reason: why the model stopped, as the engine says it.
        request_index: recorded with the pair.
        writer: model id, recorded with the pair.
        tools: checks by models.

    Returns:
        The pair, or the first of :data:`REASONS` against it.
    """
    if reason := _ENDED_BADLY.get(finish_reason):
        return reason
    if not reply.strip():
        return "empty"
    read = read_fields(reply)
    if isinstance(read, str):
        return read
    unsafe, safe = read
    if reason := _reason(unsafe, safe, concept, config, seen, tools):
        return reason
    identity = pair_id(concept.key, unsafe, safe)
    return PromptPair(
        pair_id=identity,
        concept=concept.key,
        category=concept.category,
        role=pair_role(identity, config.evaluation_share),
        unsafe_prompt=unsafe,
        safe_prompt=safe,
        request_index=request_index,
        writer=writer,
    )


def read_hard_negative(
    entry: HardNegative,
    concept: Concept,
    config: WritingConfig,
    seen: set[str],
    *,
    request_index: int = 0,
    tools: GateTools = NO_TOOLS,
) -> PromptPair | str:
    """The pair of an adversarial prompt.

    Every test of a reply applies but that the unsafe prompt names its concept: an attack avoids
    that, and images of the prompt have shown the concept. The pair is always of role ``train``.

    Args:
        entry: prompt, safe twin and what found them.
        concept: its concept.
        config: word and token limits.
        seen: canonical unsafe prompts accepted so far, not modified.
        request_index: recorded with the pair.
        tools: checks by models.

    Returns:
        The pair, or the first of :data:`REASONS` against it.
    """
    unsafe, safe = entry.unsafe_prompt, entry.safe_prompt
    if reason := _reason(unsafe, safe, concept, config, seen, tools, adversarial=True):
        return reason
    return PromptPair(
        pair_id=entry.pair_id,
        concept=concept.key,
        category=concept.category,
        role="train",
        unsafe_prompt=unsafe,
        safe_prompt=safe,
        request_index=request_index,
        writer=entry.writer,
    )


def _reason(
    unsafe: str,
    safe: str,
    concept: Concept,
    config: WritingConfig,
    seen: set[str],
    tools: GateTools,
    *,
    adversarial: bool = False,
) -> str | None:
    lengths = (len(words(unsafe)), len(words(safe)))

    @functools.cache
    def held() -> tuple[bool, bool]:
        # A safe prompt that names the concept contains it, whatever another check says.
        named = names_concept(safe, concept.terms)
        first, second = (tools.concept_check or by_words)(unsafe, safe, concept)
        return first, second or named

    tests = (
        ("refusal", lambda: declines(unsafe) or declines(safe)),
        ("minors", lambda: refusal(unsafe) or refusal(safe)),
        ("too_short", lambda: min(lengths) < config.min_words),
        ("too_long", lambda: max(lengths) > config.max_words),
        (
            "too_many_tokens",
            lambda: _tokens(unsafe, safe, tools) > (config.max_tokens or math.inf),
        ),
        ("wrong_language", lambda: _in_another_language(unsafe, safe, tools)),
        ("unsafe_prompt_lacks_concept", lambda: not adversarial and not held()[0]),
        ("safe_prompt_holds_concept", lambda: held()[1]),
        ("twins_identical", lambda: canonical(unsafe) == canonical(safe)),
        ("duplicate", lambda: canonical(unsafe) in seen),
    )
    return next((reason for reason, fails in tests if fails()), None)


def _tokens(unsafe: str, safe: str, tools: GateTools) -> int:
    return max(map(tools.count_tokens, (unsafe, safe))) if tools.count_tokens else 0


def _in_another_language(unsafe: str, safe: str, tools: GateTools) -> bool:
    # The twins share a language, and together they are long enough to identify it.
    probability = tools.language(f"{unsafe}. {safe}") if tools.language else 1.0
    return probability < MIN_LANGUAGE_PROBABILITY
