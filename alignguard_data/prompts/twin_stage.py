"""Two stages of writing: one writer's unsafe prompts, and another one's safe twins."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import (
    STOP,
    Reply,
    TextGenerator,
    Twin,
    TwinWriter,
    WritingRequest,
)
from alignguard_data.contracts.reply_reader import FIELDS, read_fields
from alignguard_data.safety.rules import refusal

WITHOUT_PROMPT = frozenset({"length", "content_filter"})
"""``finish_reason`` of a reply that the gate refuses unread."""


class TwinStage:
    """A ``TextGenerator``: the writer's unsafe prompts, each with a twin of the twin writer.

    A safe prompt in the writer's reply is never used. A reply without an unsafe prompt, and a pair
    whose twin is refused, have the gate's reason as their ``finish_reason``.

    Args:
        writer: of the unsafe prompts.
        twins: of the safe ones.
    """

    def __init__(self, writer: TextGenerator, twins: TwinWriter) -> None:
        self._writer, self._twins = writer, twins

    @property
    def model_id(self) -> str:
        """Both names, so that every pair says what wrote its twin."""
        return f"{self._writer.model_id} + {self._twins.model_id}"

    @property
    def revision(self) -> str:
        """Both revisions."""
        return f"{self._writer.revision} + {self._twins.revision}"

    @property
    def numerics(self) -> Mapping[str, str]:
        """The writer's, if it has any."""
        return getattr(self._writer, "numerics", {})

    @property
    def output_tokens(self) -> int:
        """Tokens that the writer of the unsafe prompts has written."""
        return int(getattr(self._writer, "output_tokens", 0))

    def generate(self, requests: Sequence[WritingRequest]) -> list[Reply]:
        """Write one pair per request.

        Args:
            requests: concepts and indices.

        Returns:
            One reply a request, in order.

        Raises:
            EngineError: an engine failed, or answered another number of times than it was asked.
        """
        self._twins.load()  # first, as it may refuse the base model
        replies = list(self._writer.generate(requests))
        if len(replies) != len(requests):
            raise EngineError(
                f"writer {self._writer.model_id} gave {len(replies)} replies to {len(requests)} "
                "requests"
            )
        found = [_without_twin(one) for one in replies]
        asked = [i for i, one in enumerate(found) if isinstance(one, str)]
        unsafe = [str(found[i]) for i in asked]
        twins = self._twins.twins(unsafe, [requests[i].concept for i in asked]) if asked else []
        if len(twins) != len(asked):
            raise EngineError(
                f"{self._twins.model_id} gave {len(twins)} twins to {len(asked)} prompts"
            )
        written = {i: _pair(text, twin) for i, text, twin in zip(asked, unsafe, twins, strict=True)}
        return [one if isinstance(one, Reply) else written[i] for i, one in enumerate(found)]

    def close(self) -> None:
        """Release what both hold."""
        for one in (self._writer, self._twins):
            close: Any = getattr(one, "close", None)
            if close is not None:
                close()


def _without_twin(reply: Reply) -> str | Reply:
    """The unsafe prompt of a reply, or the reply with the reason why it gets no twin."""
    if reply.finish_reason in WITHOUT_PROMPT:
        return reply
    read = read_fields(reply.text, FIELDS[:1]) if reply.text.strip() else "empty"
    if isinstance(read, str):
        return Reply(text=reply.text, finish_reason=read)
    if refusal(read[0]):
        return Reply(text=reply.text, finish_reason="minors")
    return read[0] or Reply(text=reply.text, finish_reason="empty")


def _pair(unsafe: str, twin: Twin) -> Reply:
    text = json.dumps(dict(zip(FIELDS, (unsafe, twin.text), strict=True)), ensure_ascii=False)
    return Reply(text=text, finish_reason=twin.reason or STOP)
