"""Writes prompt pairs with any served model that speaks OpenAI's chat protocol (vLLM, llama.cpp).

The client retries what may pass (time-outs, 429, 5xx) with growing pauses; what stays wrong is one
clear error, and the replies that an earlier batch got are kept by the room.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from alignguard_data.backends.chat import SCHEMA, Instruction, request_seed
from alignguard_data.errors import EngineError
from alignguard_data.protocols import WritingRequest

if TYPE_CHECKING:
    from openai import OpenAI

LOCAL = "http://127.0.0.1:8000/v1"


@dataclass(kw_only=True)
class OpenAIWriter:
    """A ``TextGenerator``; building it is light, the client is made at the first request.

    ``served_revision`` names the weights behind ``model``: the server does not say. Only the name
    of the environment variable that holds a key is configured, never the key.
    """

    model: str
    served_revision: str
    base_url: str = LOCAL
    instruction: str = "caption_pair_v1"
    min_words: int = 5
    max_words: int = 28
    temperature: float = 0.9
    max_tokens: int = 200
    seed: int = 0
    schema: bool = True
    """Hold the model to the reply's JSON schema while it writes."""
    concurrency: int = 16
    timeout_seconds: float = 120.0
    max_retries: int = 4
    api_key_variable: str = "OPENAI_API_KEY"
    input_tokens: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be positive, got {getattr(self, name)}"
            for name in ("concurrency", "timeout_seconds", "max_tokens")
            if getattr(self, name) <= 0
        ]
        if self.max_retries < 0:
            faults.append(f"max_retries must not be negative, got {self.max_retries}")
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def model_id(self) -> str:
        """The served model's name."""
        return self.model

    @property
    def revision(self) -> str:
        """Weights, instruction and everything else that changes a reply."""
        held = "schema" if self.schema else "free"
        return (
            f"{self.served_revision}+{self._instruction.version}"
            f"+t{self.temperature}-n{self.max_tokens}-s{self.seed}-{held}"
        )

    @cached_property
    def _instruction(self) -> Instruction:
        return Instruction(
            name=self.instruction, min_words=self.min_words, max_words=self.max_words
        )

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

    def generate(self, requests: Sequence[WritingRequest]) -> list[str]:
        """One reply a request, in order; at most ``concurrency`` are asked at a time.

        Raises:
            EngineError: the server cannot be reached, hangs, or refuses the request itself.
        """
        with ThreadPoolExecutor(min(self.concurrency, max(1, len(requests)))) as pool:
            return list(pool.map(self._ask, requests))

    def _ask(self, request: WritingRequest) -> str:
        import openai

        held: dict[str, Any] = {}
        if self.schema:
            kind: Literal["json_schema"] = "json_schema"
            held["response_format"] = {
                "type": kind,
                "json_schema": {"name": "prompt_pair", "schema": SCHEMA, "strict": True},
            }
        try:
            answer = self._client.chat.completions.create(
                model=self.model,
                messages=self._instruction.messages(request, self.seed),  # type: ignore[arg-type]
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                seed=request_seed(request, self.seed),
                **held,
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
        return self._text(answer)

    def _text(self, answer: Any) -> str:
        choices = getattr(answer, "choices", None)
        if not choices:
            raise EngineError(f"{self.base_url} answered what is no chat: it has no choices")
        if answer.usage:
            self.input_tokens += answer.usage.prompt_tokens
            self.output_tokens += answer.usage.completion_tokens
        message = choices[0].message
        # A declined request may come as a field of its own; the gate reads both alike.
        return message.content or getattr(message, "refusal", None) or ""
