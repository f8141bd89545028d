"""Parses chat completions of OpenAI-compatible servers, whose fields vary in type.

Servers differ where the protocol leaves room: fields are null or missing, content comes in parts,
thoughts have their own field, errors come with status 200.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import STOP, Reply

_LENGTHS = {"length", "model_length", "max_tokens"}
_SHOWN = 300


class NoChat(EngineError):
    """The answer is not a chat completion; the text says what it is."""


class ErrorAnswer(EngineError):
    """The answer is an error with a success status; the request is retried, as it may pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One chat completion.

    ``first_token`` has the candidates of the first token with their log probabilities, if
    requested.
    """

    text: str
    finish_reason: str = STOP
    input_tokens: int = 0
    output_tokens: int = 0
    first_token: tuple[tuple[str, float], ...] = ()

    @property
    def reply(self) -> Reply:
        """Text and finish reason, as a writer gives them to the gate."""
        return Reply(text=self.text, finish_reason=self.finish_reason)


def read_answer(content: bytes) -> Answer:
    """The first choice of a chat completion.

    Args:
        content: body of the answer, as it came.

    Returns:
        Text, finish reason (``stop`` if the server gives none), token counts (0 if not given) and
        the candidates of the first token. Null and missing fields are empty.

    Raises:
        ErrorAnswer: the answer or its first choice is an error.
        NoChat: it is not JSON, or has no choices.
    """
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NoChat(f"no chat completion: {_shown(content.decode(errors='replace'))}") from error
    if said := _error(body):
        raise ErrorAnswer(f"an error: {said}")
    choices = _field(body, "choices")
    if not isinstance(choices, list) or not choices:
        raise NoChat(f"no chat completion (it has no choices): {_shown(json.dumps(body))}")
    choice, usage = choices[0], _field(body, "usage")
    return Answer(
        text=_text(_field(choice, "message")),
        finish_reason=_finish_reason(_field(choice, "finish_reason")),
        input_tokens=_count(_field(usage, "prompt_tokens")),
        output_tokens=_count(_field(usage, "completion_tokens")),
        first_token=_first_token(_field(choice, "logprobs")),
    )


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _error(body: Any) -> str:
    """An error's text, from each place where servers put it; empty if it is not an error."""
    choices = _field(body, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    for holder in (body, choice):
        if error := _field(holder, "error"):
            return _shown(_field(error, "message") or error)
    if _field(body, "object") == "error":
        return _shown(_field(body, "message") or body)
    if _field(choice, "finish_reason") == "error":
        return _shown(choice)
    return ""


def _shown(said: Any) -> str:
    text = said if isinstance(said, str) else json.dumps(said)
    return " ".join(text.split())[:_SHOWN]


def _text(message: Any) -> str:
    """The model's text; if empty, its refusal, then its thoughts.

    A server that classifies the whole reply as thinking leaves the content empty.
    """
    for name in ("content", "refusal", "reasoning_content", "reasoning"):
        text = _joined(_field(message, name))
        if text.strip():
            # A lone surrogate cannot be written to a file.
            return text.encode("utf-8", "replace").decode("utf-8")
    return ""


def _joined(content: Any) -> str:
    """Text, or the text parts of a list; other parts, such as thoughts, are left out."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_joined(part) for part in content)
    found = _field(content, "text") or _field(content, "refusal")
    return found if isinstance(found, str) else ""


def _finish_reason(said: Any) -> str:
    if not isinstance(said, str):
        return STOP
    return "length" if said.casefold() in _LENGTHS else said.casefold()


def _count(number: Any) -> int:
    return number if isinstance(number, int) and number > 0 else 0


def _first_token(logprobs: Any) -> tuple[tuple[str, float], ...]:
    tokens = _field(logprobs, "content")
    first = tokens[0] if isinstance(tokens, list) and tokens else None
    candidates = _field(first, "top_logprobs")
    return tuple(
        (candidate["token"], float(candidate["logprob"]))
        for candidate in (candidates if isinstance(candidates, list) else [])
        if isinstance(_field(candidate, "token"), str)
        and isinstance(_field(candidate, "logprob"), int | float)
    )
