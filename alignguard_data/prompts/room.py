"""Room ``prompts``: turns a writer's replies into prompt pairs, or rejects them with a reason.

One partition per concept. Each batch of replies is saved, so a killed run repeats at most one.
:mod:`alignguard_data.prompts.gate` decides what is accepted. Hard negatives
(:mod:`alignguard_data.prompts.hard_negatives`) come after the writer's replies; new ones do not ask
the writer again.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa

from alignguard_data.contracts.errors import EngineError, IntegrityError
from alignguard_data.contracts.protocols import Progress, Reply, TextGenerator, WritingRequest
from alignguard_data.contracts.records import (
    Concept,
    PromptPair,
    RejectedReply,
    from_table,
    to_table,
)
from alignguard_data.contracts.text import canonical
from alignguard_data.contracts.vocabulary import CONCEPT_CHECK
from alignguard_data.prompts import hard_negatives as hard
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.gate import (
    GATE_VERSION,
    NO_TOOLS,
    GateTools,
    read_hard_negative,
    read_reply,
)
from alignguard_data.safety.rules import redact, refusal
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis, digests
from alignguard_data.storage.manifest import Manifest, fingerprint
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.tally import Tally, masked

ROOM = "prompts"
FORMAT = 1
"""Part of the fingerprint: increment when the files change for equal replies."""
_SAVED = pa.schema([("text", pa.string()), ("finish_reason", pa.string())])


def spec(
    data: DataRoot,
    concept: Concept,
    writer: TextGenerator,
    config: WritingConfig,
    tools: GateTools = NO_TOOLS,
) -> PartitionSpec:
    """Spec of the concept's prompt pairs: its record, the writer and the config.

    Args:
        data: the data folder.
        concept: the concept.
        writer: the language model.
        config: the profile's section ``writing``.
        tools: checks by models.

    Returns:
        The spec of the concept's partition.
    """
    chosen = dataclasses.asdict(config)
    # Batch size and price do not change a reply.
    del chosen["ask_in_batches_of"], chosen["price_per_million_tokens"]
    # Nor does when a concept fails or is asked again.
    del chosen["min_pairs"], chosen["ask_again"]
    for name in ("max_tokens", "language"):
        if chosen[name] is None:
            del chosen[name]
    check, counted = tools.concept_check, getattr(tools.count_tokens, "version", None)
    language_version = getattr(tools.language, "version", None)
    return PartitionSpec(
        folder=data.partition(ROOM, concept.key),
        room=ROOM,
        key=concept.key,
        config={
            **chosen,
            "gate": GATE_VERSION,
            **basis(ROOM, format=FORMAT, judges_text=True, engine=writer),
        },
        inputs={
            "concept": fingerprint(dataclasses.asdict(concept), {}),
            **hard.ledger_input(hard.of_concept(data, concept.key)),
        },
        models={
            writer.model_id: writer.revision,
            **({CONCEPT_CHECK: check.version} if check else {}),
            **({"tokens": counted} if config.max_tokens and counted else {}),
            **({"language": language_version} if config.language and language_version else {}),
        },
        asks_again=config.ask_again,
        least=config.min_pairs,
    )


def write_prompt_pairs(
    data: DataRoot,
    concept: Concept,
    writer: TextGenerator,
    config: WritingConfig,
    progress: Progress | None = None,
    tools: GateTools = NO_TOOLS,
) -> Manifest:
    """Request replies until the concept has its pairs or the request limit is reached.

    Tables: ``pairs`` (PromptPair) and ``rejected`` (RejectedReply); with hard negatives also
    ``hard_negatives`` (HardNegativeOrigin). ``counts["short_by"]`` is the number of missing pairs;
    another call keeps the pairs and repeats the rejected requests. Accepted and rejected replies
    and hard negatives sum to ``counts["requests"]``. If the writer counts tokens, the counts
    include their rate, and the cost of a pair if a price is set.

    Args:
        data: the data folder.
        concept: the concept.
        writer: the language model.
        config: the profile's section ``writing``.
        progress: called with the number of pairs just accepted.
        tools: checks by models.

    Returns:
        The partition's manifest.

    Raises:
        EngineError: the writer returned another number of replies than requests.
        NothingMade: fewer than ``config.min_pairs`` replies were accepted.
    """
    with open_partition(spec(data, concept, writer, config, tools)) as work:
        if work.done:
            return work.done
        accepted, rejected = _kept(work)
        again = sorted(rejected)
        seen = {_as_seen(pair) for pair in accepted}
        tokens, started = output_tokens(writer), time.monotonic()
        if progress and accepted:
            progress(len(accepted))
        gated = partial(_gated, concept, config, writer.model_id, tools)
        for indices, replies in _asked(work, concept, writer, config, accepted, again):
            before = len(accepted)
            for index, reply in zip(indices, replies, strict=True):
                read = gated(index, reply, seen)
                if isinstance(read, RejectedReply):
                    rejected[index] = read
                else:
                    rejected.pop(index, None)
                    accepted.append(read)
                    seen.add(_as_seen(read))
            if progress and len(accepted) > before:
                progress(len(accepted) - before)
        spent = _spent(output_tokens(writer) - tokens, time.monotonic() - started, config, accepted)
        found = _hard_negatives(data, concept, config, seen, tools)
        accepted += found.pairs
        rejected |= {row.request_index: row for row in found.rejected}
        lost = [rejected[i] for i in sorted(rejected)]
        return _finish(work, config, accepted, lost, spent, found.origins)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A concept's hard negatives after the gate."""

    pairs: list[PromptPair]
    rejected: list[RejectedReply]
    origins: list[hard.HardNegativeOrigin]


def _hard_negatives(
    data: DataRoot, concept: Concept, config: WritingConfig, seen: set[str], tools: GateTools
) -> _Found:
    """Pass the ledger's prompts of a concept through the gate; ``seen`` gets those accepted."""
    found = _Found(pairs=[], rejected=[], origins=[])
    for number, entry in enumerate(hard.of_concept(data, concept.key)):
        index = _request_limit(config) + number
        read = read_hard_negative(entry, concept, config, seen, request_index=index, tools=tools)
        if isinstance(read, str):
            found.rejected.append(_rejected(concept, index, read, entry.unsafe_prompt))
        else:
            seen.add(_as_seen(read))
            found.pairs.append(read)
            found.origins.append(hard.origin_of(entry))
    return found


def _request_limit(config: WritingConfig) -> int:
    """Most requests of a concept; hard negatives are numbered from here."""
    return config.pairs_per_concept * config.max_requests_per_pair


def _as_seen(pair: PromptPair) -> str:
    """The entry of an accepted pair in ``seen`` (see ``read_reply``)."""
    return canonical(pair.unsafe_prompt)


def _kept(work: PartitionWork) -> tuple[list[PromptPair], dict[int, RejectedReply]]:
    """The writer's pairs and rejected replies of a partition that differs at most in what it lacks.

    It is short, or was made with other hard negatives.
    """
    if not _current_with_its_hard_negatives(work.spec):
        return [], {}
    pairs = from_table(PromptPair, manifests.read(work.folder, "pairs"))
    rejected = from_table(RejectedReply, manifests.read(work.folder, "rejected"))
    limit = work.spec.config["pairs_per_concept"] * work.spec.config["max_requests_per_pair"]
    return (
        [pair for pair in pairs if pair.request_index < limit],
        {row.request_index: row for row in rejected if row.request_index < limit},
    )


def _current_with_its_hard_negatives(spec: PartitionSpec) -> bool:
    """Whether the partition on disk is current, or would be with the hard negatives that it has."""
    try:
        made = manifests.load(spec.folder)
    except IntegrityError:
        return False
    if made is None:
        return False
    inputs = {name: value for name, value in spec.inputs.items() if name != hard.INPUT}
    inputs |= {name: value for name, value in made.inputs.items() if name == hard.INPUT}
    return dataclasses.replace(spec, inputs=inputs).current() is not None


def close_writer(writer: TextGenerator) -> None:
    """Release a writer's resources, such as a GPU, if it has a ``close``."""
    close = getattr(writer, "close", None)
    if close is not None:
        close()


def output_tokens(writer: TextGenerator) -> int:
    """Tokens written so far; 0 if the writer does not count them."""
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
    again: Sequence[int],
) -> Iterator[tuple[Sequence[int], list[Reply]]]:
    # Request no more replies than missing pairs, so no good reply is discarded. A reply depends
    # only on the request's index, so the batch size does not change it.
    saved = set(work.saved_names())
    indices: Sequence[int] = again or range(_request_limit(config))
    asked = 0
    while asked < len(indices) and len(accepted) < config.pairs_per_concept:
        name = f"replies-{asked:08d}"
        if name in saved:
            replies = [Reply(**row) for row in work.load_batch(name).to_pylist()]
        else:
            wanted = config.pairs_per_concept - len(accepted)
            size = min(config.ask_in_batches_of, wanted, len(indices) - asked)
            part = indices[asked : asked + size]
            replies = writer.generate([WritingRequest(concept=concept, index=i) for i in part])
            if len(replies) != size:
                raise EngineError(
                    f"writer {writer.model_id} gave {len(replies)} replies to {size} requests"
                )
            rows = [dataclasses.asdict(reply) for reply in replies]
            work.save_batch(name, pa.Table.from_pylist(rows, schema=_SAVED))
        yield indices[asked : asked + len(replies)], replies
        asked += len(replies)


def _finish(
    work: PartitionWork,
    config: WritingConfig,
    accepted: list[PromptPair],
    rejected: list[RejectedReply],
    spent: dict[str, float],
    origins: Sequence[hard.HardNegativeOrigin],
) -> Manifest:
    requests = len(accepted) + len(rejected)
    roles = Counter(pair.role for pair in accepted)
    pairs = sorted(accepted, key=lambda pair: pair.pair_id)
    tables = {
        "pairs": to_table(PromptPair, pairs),
        "rejected": to_table(RejectedReply, rejected),
    }
    if origins:
        rows = sorted(origins, key=lambda row: row.pair_id)
        tables[hard.TABLE] = to_table(hard.HardNegativeOrigin, rows)
    return work.finish(
        tables=tables,
        rejected=Counter(row.reason for row in rejected),
        counts={
            "requests": requests,
            "accepted_share": round(len(accepted) / requests, 4) if requests else 0.0,
            "train": roles["train"],
            "evaluation": roles["evaluation"],
            **({hard.TABLE: len(origins)} if origins else {}),
            **spent,
        },
        tally=Tally(
            wanted=config.pairs_per_concept + len(origins),
            made=len(accepted),
            unit="prompt pairs",
            example=_example(rejected),
        ),
        digests=digests((p.role, (p.pair_id, p.unsafe_prompt, p.safe_prompt)) for p in pairs),
    )


def _example(rejected: Sequence[RejectedReply]) -> str:
    """A masked reply that was rejected for the most common reason."""
    if not rejected:
        return ""
    reasons = Counter(row.reason for row in rejected)
    slug = min(reasons, key=lambda reason: (-reasons[reason], reason))
    return masked(next(row.reply for row in rejected if row.reason == slug))


def _gated(
    concept: Concept,
    config: WritingConfig,
    writer: str,
    tools: GateTools,
    index: int,
    reply: Reply,
    seen: set[str],
) -> PromptPair | RejectedReply:
    """Turn the reply to a request into a pair or a reason; ``seen`` as for ``read_reply``."""
    read = read_reply(
        reply.text,
        concept,
        config,
        seen,
        finish_reason=reply.finish_reason,
        request_index=index,
        writer=writer,
        tools=tools,
    )
    return _rejected(concept, index, read, reply.text) if isinstance(read, str) else read


def _rejected(concept: Concept, index: int, reason: str, reply: str) -> RejectedReply:
    # The text of a reply that mentions minors is never stored.
    kept = redact(reply) if reason == "minors" or refusal(reply) else reply
    return RejectedReply(concept=concept.key, request_index=index, reason=reason, reply=kept)
