"""Client of a model served with OpenAI's chat protocol (vLLM, llama.cpp).

Transient errors (time-outs, 429, 5xx) are retried with growing pauses. What remains is one clear
error.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import tenacity

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.answers import Answer, ErrorAnswer, NoChat, read_answer
from alignguard_data.engines.reaching import (
    key_fault,
    url_fault,
    why_no_client,
    why_unreachable,
)

if TYPE_CHECKING:
    from openai import OpenAI

LOCAL = "http://127.0.0.1:8000/v1"

OPTIONS = (
    "temperature", "max_tokens", "seed", "response_format", "logprobs", "top_logprobs",
)  # fmt: skip
"""Request fields other than model and messages that a profile may rename or leave out."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Address, time-outs and retries of a served model.

    Raises:
        ValueError: a setting is invalid; all are named.
    """

    model: str
    """Its name on the server."""
    base_url: str = LOCAL
    """Address up to the version, without ``/chat/completions``."""
    concurrency: int = 16
    """Most requests in flight."""
    timeout_seconds: float = 120.0
    """Of one request."""
    max_retries: int = 4
    """Of time-outs, status 429 and 5xx, with growing pauses."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key; the key itself is in no config."""
    request_fields: Mapping[str, str | None] = field(default_factory=dict)
    """This server's name for a field of :data:`OPTIONS`, or None if it refuses the field."""

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be positive, got {getattr(self, name)}"
            for name in ("concurrency", "timeout_seconds")
            if getattr(self, name) <= 0
        ]
        if self.max_retries < 0:
            faults.append(f"max_retries must not be negative, got {self.max_retries}")
        if wrong := url_fault(self.base_url):
            faults.append(f"base_url {wrong}, got {self.base_url!r}")
        if wrong := key_fault(self.api_key_variable):
            faults.append(wrong)
        faults += _faults(self.request_fields)
        if faults:
            raise ValueError("; ".join(faults))

    @cached_property
    def _client(self) -> "OpenAI":
        try:
            from openai import OpenAI
        except ImportError as error:
            raise EngineError("openai is not installed: pip install 'alignguard[llm]'") from error
        try:
            return OpenAI(
                base_url=self.base_url,
                api_key=os.environ.get(self.api_key_variable) or "none",
                timeout=self.timeout_seconds,
                max_retries=self.max_retries,
            )
        except (ValueError, ImportError, OSError) as error:
            raise EngineError(why_no_client(error, self.base_url)) from error

    @property
    def variant(self) -> str:
        """Hash of the renamed and omitted request fields, which change replies; empty if none."""
        if not self.request_fields:
            return ""
        fields = json.dumps(dict(self.request_fields), sort_keys=True)
        return f"-f{hashlib.sha256(fields.encode()).hexdigest()[:8]}"

    def ask(self, messages: list[dict[str, Any]], **options: Any) -> Answer:
        """Request one chat completion.

        Args:
            messages: the chat, each message with ``role`` and ``content``.
            **options: request fields of :data:`OPTIONS`; those that ``request_fields`` maps to
                None are not sent.

        Returns:
            The first choice.

        Raises:
            EngineError: the server cannot be reached, hangs, refuses the request, or does not
                answer with a chat completion.
        """
        # The client retries error statuses, but takes an error with status 200 for an answer.
        patient = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ErrorAnswer),
            stop=tenacity.stop_after_attempt(self.max_retries + 1),
            wait=tenacity.wait_exponential_jitter(multiplier=0.5, max=8, jitter=0.5),
            reraise=True,
        )
        return patient(self._ask_once, messages, self._renamed(options))

    def _renamed(self, options: Mapping[str, Any]) -> dict[str, Any]:
        names = {name: self.request_fields.get(name, name) for name in options}
        return {new: options[name] for name, new in names.items() if new is not None}

    def _ask_once(self, messages: list[dict[str, Any]], fields: dict[str, Any]) -> Answer:
        client = self._client
        import openai

        try:
            answer = client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=messages,  # type: ignore[arg-type]
                extra_body=fields,
            )
        except openai.APITimeoutError as error:
            raise EngineError(
                f"{self.base_url} did not answer within {self.timeout_seconds:.0f} s, "
                f"{self.max_retries + 1} times"
            ) from error
        except openai.APIConnectionError as error:
            start = (
                "start the server, for example `python -m vllm.entrypoints.openai.api_server "
                f"--model {self.model} --host 127.0.0.1`"
            )
            raise EngineError(why_unreachable(error, self.base_url, start)) from error
        except openai.APIStatusError as error:
            raise EngineError(
                f"{self.base_url} answered {error.status_code} to model {self.model}: "
                f"{' '.join(str(error.message).split())[:300]}{_hint(error.status_code, fields)}"
            ) from error
        except (openai.APIError, ValueError) as error:
            raise EngineError(f"{self.base_url} answered no chat completion: {error}") from error
        try:
            return read_answer(answer.content)
        except (ErrorAnswer, NoChat) as error:
            raise type(error)(f"{self.base_url} answered {error} (model {self.model})") from error


def _faults(request_fields: Mapping[str, str | None]) -> list[str]:
    faults = []
    taken = {"model", "messages", *(name for name in OPTIONS if name not in request_fields)}
    for name, new in request_fields.items():
        if name not in OPTIONS:
            faults.append(f"request_fields has {name!r}; it may have {', '.join(OPTIONS)}")
        if new is not None and (not isinstance(new, str) or not new or new in taken):
            faults.append(f"request_fields.{name} must be a distinct name or null, got {new!r}")
        if isinstance(new, str):
            taken.add(new)
    return faults


def _hint(status: int, fields: Mapping[str, Any]) -> str:
    """Advice for a refused request: the server may not know one of its fields."""
    if status not in (400, 422):
        return ""
    return (
        f". The request has the fields {', '.join(fields)}: where the server refuses one, the "
        "engine's `request_fields` in the profile renames it or leaves it out (null), such as "
        "{seed: null, max_tokens: max_completion_tokens}"
    )


def json_schema(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The request option that constrains a served model to a JSON schema.

    Args:
        name: of the schema; servers require one.
        schema: of the reply.

    Returns:
        The field ``response_format``.
    """
    held = {"name": name, "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": held}}
