"""Room ``prompts``: a writer's replies become prompt pairs, or are rejected with a reason.

One partition a concept. Replies are asked in batches, each saved, so that a killed run asks at
most one batch again. The gate is pure; its tests stand in a fixed order, see :data:`REASONS`.
"""

import dataclasses
import json
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from alignguard_data.errors import EngineError
from alignguard_data.manifest import Manifest, fingerprint
from alignguard_data.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.paths import DataRoot
from alignguard_data.protocols import Progress, TextGenerator, WritingRequest
from alignguard_data.records import (
    Concept,
    PromptPair,
    RejectedReply,
    pair_id,
    pair_role,
    to_table,
)
from alignguard_data.safety import redact, refusal

ROOM = "prompts"
GATE_VERSION = 1
"""Part of the fingerprint: raise it when a change of the gate changes what is accepted."""

REASONS = (
    "unparseable",
    "schema",
    "refusal",
    "minors",
    "too_short",
    "too_long",
    "too_many_tokens",
    "unsafe_prompt_lacks_concept",
    "safe_prompt_holds_concept",
    "twins_identical",
    "duplicate",
)
"""Reason slugs in the order of their tests. A reply in plain words that declines is a
``refusal``; any other reply that is not JSON is ``unparseable``."""

_FENCE = re.compile(r"^```(?:json)?\s*\n(.*?)\n?```$", re.DOTALL | re.IGNORECASE)
_DECLINES = re.compile(
    r"^\W*(?:(?:i am|i'm|im|we are|we're) (?:very |so |really )?(?:sorry|unable|not able|afraid)"
    r"|(?:sorry|apologies|my apologies|i apologi[sz]e)\b"
    r"|(?:unfortunately,? )?(?:i|we) (?:can ?not|can't|cant|won't|will not|must decline|decline"
    r"|do not feel|don't feel|am not comfortable)\b"
    r"|as an? (?:ai|language model|assistant)\b"
    r"|(?:i|we) (?:refuse|must refuse)\b|(?:this|that|your) request (?:violates|goes against))"
)


CountTokens = Callable[[str], int]
"""How many tokens the base model's text encoder reads of a prompt."""


def no_tokens(prompt: str) -> int:
    """Counts nothing: for writers whose prompts always fit."""
    return 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WritingConfig:
    """How many pairs a concept gets and which prompts pass; words are split at white space."""

    pairs_per_concept: int
    evaluation_share: float = 0.2
    """Share of the pairs that is reserved for measuring and never rendered for training."""
    min_words: int = 5
    max_words: int = 28  # the longest prompt of the published CoProV2
    max_requests_per_pair: int = 3
    """The writer is asked at most this often per wanted pair; then the concept stays short."""
    ask_in_batches_of: int = 32
    max_tokens: int | None = None
    """Tokens that the base model's text encoder reads (77 for CLIP, start and end included)."""
    price_per_million_tokens: float | None = None
    """Of the writer's output, in any currency; gives the cost of a pair."""

    def __post_init__(self) -> None:
        for name in (
            "pairs_per_concept",
            "min_words",
            "max_requests_per_pair",
            "ask_in_batches_of",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.evaluation_share < 1:
            raise ValueError(f"evaluation_share must be in [0, 1), got {self.evaluation_share}")
        if self.max_words < self.min_words:
            raise ValueError(
                f"max_words must be at least min_words {self.min_words}, got {self.max_words}"
            )


def read_reply(
    reply: str,
    concept: Concept,
    config: WritingConfig,
    seen: set[str],
    *,
    request_index: int = 0,
    writer: str = "",
    count_tokens: CountTokens = no_tokens,
) -> PromptPair | str:
    """The pair that a reply holds, or the first of :data:`REASONS` that forbids it.

    ``seen`` holds the case-folded unsafe prompts accepted before; it is read, not changed. A
    pair seen before has its unsafe prompt there, so one look finds both kinds of duplicate.
    """
    read = _fields(reply)
    if isinstance(read, str):
        return read
    unsafe, safe = read
    if reason := _reason(unsafe, safe, concept, config, seen, count_tokens):
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


def names_concept(text: str, terms: Sequence[str]) -> bool:
    """Whether any term occurs in ``text`` as words, in any case, singular or regular plural."""
    folded = text.casefold()
    for term in terms:
        words = r"[\s\-]+".join(re.escape(word) for word in term.casefold().split())
        if re.search(rf"(?<!\w){words}(?:e?s)?(?!\w)", folded):
            return True
    return False


def spec(
    data: DataRoot, concept: Concept, writer: TextGenerator, config: WritingConfig
) -> PartitionSpec:
    """What the concept's prompt pairs should be made of: its record, the writer, the config."""
    chosen = dataclasses.asdict(config)
    # How replies are batched and priced changes what a kill costs, not what is written.
    del chosen["ask_in_batches_of"], chosen["price_per_million_tokens"]
    if config.max_tokens is None:
        del chosen["max_tokens"]
    return PartitionSpec(
        folder=data.partition(ROOM, concept.key),
        room=ROOM,
        key=concept.key,
        config={**chosen, "gate": GATE_VERSION},
        inputs={"concept": fingerprint(dataclasses.asdict(concept), {})},
        models={writer.model_id: writer.revision},
    )


def write_prompt_pairs(
    data: DataRoot,
    concept: Concept,
    writer: TextGenerator,
    config: WritingConfig,
    progress: Progress | None = None,
    count_tokens: CountTokens = no_tokens,
) -> Manifest:
    """Ask until the concept has its pairs or the limit of requests is hit.

    Tables: ``pairs`` (PromptPair) and ``rejected`` (RejectedReply). A concept that stays short
    says so in ``counts["short_by"]``. Accepted and rejected replies sum to ``counts["requests"]``.
    A writer that counts its tokens gives their rate, and the cost of a pair where a price is
    known. ``progress`` counts accepted pairs.

    Raises:
        EngineError: the writer gave another number of replies than requests.
    """
    with open_partition(spec(data, concept, writer, config)) as work:
        if work.done:
            return work.done
        accepted: list[PromptPair] = []
        rejected: list[RejectedReply] = []
        seen: set[str] = set()
        tokens, started = output_tokens(writer), time.monotonic()
        for first, replies in _asked(work, concept, writer, config, accepted):
            before = len(accepted)
            for index, reply in enumerate(replies, start=first):
                read = read_reply(
                    reply,
                    concept,
                    config,
                    seen,
                    request_index=index,
                    writer=writer.model_id,
                    count_tokens=count_tokens,
                )
                if isinstance(read, str):
                    rejected.append(_rejected(concept, index, read, reply))
                else:
                    accepted.append(read)
                    seen.add(read.unsafe_prompt.casefold())
            if progress and len(accepted) > before:
                progress(len(accepted) - before)
        spent = _spent(output_tokens(writer) - tokens, time.monotonic() - started, config, accepted)
        return _finish(work, config, accepted, rejected, spent)


def close_writer(writer: TextGenerator) -> None:
    """Free what a writer holds, such as a GPU; one that holds nothing has no ``close``."""
    close = getattr(writer, "close", None)
    if close is not None:
        close()


def output_tokens(writer: TextGenerator) -> int:
    """Tokens that a writer has written so far; 0 for one that does not count them."""
    return int(getattr(writer, "output_tokens", 0))


def _spent(
    tokens: int, seconds: float, config: WritingConfig, accepted: Sequence[PromptPair]
) -> dict[str, float]:
    if not tokens:
        return {}
    found: dict[str, float] = {
        "output_tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
    }
    if config.price_per_million_tokens is not None and accepted:
        cost = tokens * config.price_per_million_tokens / 1e6
        found["cost_per_pair"] = round(cost / len(accepted), 8)
    return found


def _asked(
    work: PartitionWork,
    concept: Concept,
    writer: TextGenerator,
    config: WritingConfig,
    accepted: list[PromptPair],
) -> Iterator[tuple[int, list[str]]]:
    # Only as many replies as pairs are still wanted, so that no good reply is thrown away.
    # The batches' size does not move a reply: a request's answer depends on its index alone.
    saved = set(work.saved_names())
    asked, limit = 0, config.pairs_per_concept * config.max_requests_per_pair
    while asked < limit and len(accepted) < config.pairs_per_concept:
        name = f"replies-{asked:08d}"
        if name in saved:
            replies = work.load_batch(name).column("reply").to_pylist()
        else:
            wanted = config.pairs_per_concept - len(accepted)
            size = min(config.ask_in_batches_of, wanted, limit - asked)
            requests = [WritingRequest(concept=concept, index=asked + i) for i in range(size)]
            replies = writer.generate(requests)
            if len(replies) != size:
                raise EngineError(
                    f"writer {writer.model_id} gave {len(replies)} replies to {size} requests"
                )
            work.save_batch(name, pa.table({"reply": pa.array(replies, pa.string())}))
        yield asked, replies
        asked += len(replies)


def _finish(
    work: PartitionWork,
    config: WritingConfig,
    accepted: list[PromptPair],
    rejected: list[RejectedReply],
    spent: dict[str, float],
) -> Manifest:
    requests = len(accepted) + len(rejected)
    roles = Counter(pair.role for pair in accepted)
    return work.finish(
        tables={
            "pairs": to_table(PromptPair, sorted(accepted, key=lambda pair: pair.pair_id)),
            "rejected": to_table(RejectedReply, rejected),
        },
        rejected=Counter(row.reason for row in rejected),
        counts={
            "requests": requests,
            "accepted_share": round(len(accepted) / requests, 4) if requests else 0.0,
            "train": roles["train"],
            "evaluation": roles["evaluation"],
            "short_by": config.pairs_per_concept - len(accepted),
            **spent,
        },
    )


def _rejected(concept: Concept, index: int, reason: str, reply: str) -> RejectedReply:
    # What speaks of minors is not even kept among the rejected.
    kept = redact(reply) if reason == "minors" or refusal(reply) else reply
    return RejectedReply(concept=concept.key, request_index=index, reason=reason, reply=kept)


def _fields(reply: str) -> tuple[str, str] | str:
    text = reply.strip()
    if fenced := _FENCE.match(text):
        text = fenced[1].strip()
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return "refusal" if _declines(text) else "unparseable"
    if isinstance(content, str) and _declines(content):
        return "refusal"
    if not isinstance(content, dict) or set(content) != {"unsafe_prompt", "safe_prompt"}:
        return "schema"
    unsafe, safe = content["unsafe_prompt"], content["safe_prompt"]
    if not isinstance(unsafe, str) or not isinstance(safe, str):
        return "schema"
    return _tidy(unsafe), _tidy(safe)


def _reason(
    unsafe: str,
    safe: str,
    concept: Concept,
    config: WritingConfig,
    seen: set[str],
    count_tokens: CountTokens,
) -> str | None:
    words = (len(unsafe.split()), len(safe.split()))
    most = config.max_tokens
    tests = (
        ("refusal", lambda: _declines(unsafe) or _declines(safe)),
        ("minors", lambda: refusal(unsafe) or refusal(safe)),
        ("too_short", lambda: min(words) < config.min_words),
        ("too_long", lambda: max(words) > config.max_words),
        (
            "too_many_tokens",
            lambda: most is not None and max(map(count_tokens, (unsafe, safe))) > most,
        ),
        ("unsafe_prompt_lacks_concept", lambda: not names_concept(unsafe, concept.terms)),
        ("safe_prompt_holds_concept", lambda: names_concept(safe, concept.terms)),
        ("twins_identical", lambda: unsafe.casefold() == safe.casefold()),
        ("duplicate", lambda: unsafe.casefold() in seen),
    )
    return next((reason for reason, fails in tests if fails()), None)


def _declines(text: str) -> bool:
    return bool(_DECLINES.match(text.replace("’", "'").casefold()))


def _tidy(text: str) -> str:
    # One spelling of one text: composed characters, single spaces, nothing that is not a character.
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in composed)
    return " ".join(visible.split())
