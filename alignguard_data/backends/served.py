"""A served model that speaks OpenAI's chat protocol (vLLM, llama.cpp): one question, one answer.

The client retries what may pass (time-outs, 429, 5xx) with growing pauses; what stays wrong is one
clear error.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alignguard_data.errors import EngineError

if TYPE_CHECKING:
    from openai import OpenAI

LOCAL = "http://127.0.0.1:8000/v1"


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Where a model is served and how patiently it is asked.

    Only the name of the environment variable that holds a key is configured, never the key.
    """

    model: str
    base_url: str = LOCAL
    concurrency: int = 16
    timeout_seconds: float = 120.0
    max_retries: int = 4
    api_key_variable: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be positive, got {getattr(self, name)}"
            for name in ("concurrency", "timeout_seconds")
            if getattr(self, name) <= 0
        ]
        if self.max_retries < 0:
            faults.append(f"max_retries must not be negative, got {self.max_retries}")
        if faults:
            raise ValueError("; ".join(faults))

    @cached_property
    def _client(self) -> "OpenAI":
        try:
            from openai import OpenAI
        except ImportError as error:
            raise EngineError("openai is not installed: pip install 'alignguard[llm]'") from error
        return OpenAI(
            base_url=self.base_url,
            api_key=os.environ.get(self.api_key_variable) or "none",
            timeout=self.timeout_seconds,
            max_retries=self.max_retries,
        )

    def ask(self, messages: list[dict[str, Any]], **options: Any) -> Any:
        """One chat completion with at least one choice; ``options`` go to the protocol.

        Raises:
            EngineError: the server cannot be reached, hangs, or refuses the request itself.
        """
        client = self._client
        import openai

        try:
            answer: Any = client.chat.completions.create(
                model=self.model,
                messages=messages,  # type: ignore[arg-type]
                **options,
            )
        except openai.APITimeoutError as error:
            raise EngineError(
                f"{self.base_url} did not answer within {self.timeout_seconds:.0f} s, "
                f"{self.max_retries + 1} times"
            ) from error
        except openai.APIConnectionError as error:
            raise EngineError(
                f"{self.base_url} cannot be reached: start the server, for example "
                f"`python -m vllm.entrypoints.openai.api_server --model {self.model} "
                "--host 127.0.0.1`"
            ) from error
        except openai.APIStatusError as error:
            raise EngineError(
                f"{self.base_url} answered {error.status_code} to model {self.model}: "
                f"{' '.join(str(error.message).split())[:300]}"
            ) from error
        except (openai.APIError, ValueError) as error:
            raise EngineError(f"{self.base_url} answered what is no chat: {error}") from error
        if not getattr(answer, "choices", None):
            raise EngineError(f"{self.base_url} answered what is no chat: it has no choices")
        return answer


def reply_text(answer: Any) -> str:
    """The text of a chat completion."""
    message = answer.choices[0].message
    # A declined request may come as a field of its own; readers of replies treat both alike.
    return message.content or getattr(message, "refusal", None) or ""


def json_schema(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The option that holds a served model to a JSON schema while it writes."""
    held = {"name": name, "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": held}}
