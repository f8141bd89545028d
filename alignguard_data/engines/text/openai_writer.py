"""Writes prompt pairs with a model served over OpenAI's chat protocol (vLLM, llama.cpp).

The room saves the replies of earlier batches, so an error loses none of them.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from alignguard_data.contracts.protocols import Reply, WritingRequest
from alignguard_data.engines.served import LOCAL, ServedModel, json_schema
from alignguard_data.engines.text.chat import Chat, schema_tag
from alignguard_data.engines.text.steps import AnyInstruction, load_instruction


@dataclass(kw_only=True)
class OpenAIWriter:
    """A ``TextGenerator`` that builds its client at the first request.

    ``served_revision`` names the weights behind ``model``, which the server does not report. For
    the server's fields see :class:`ServedModel`.
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
    """Constrain the model to the reply's JSON schema."""
    concurrency: int = 16
    timeout_seconds: float = 120.0
    max_retries: int = 4
    api_key_variable: str = "OPENAI_API_KEY"
    request_fields: Mapping[str, str | None] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens <= 0:
            raise ValueError(f"max_tokens must be positive, got {self.max_tokens}")
        self._served = ServedModel(
            model=self.model,
            base_url=self.base_url,
            concurrency=self.concurrency,
            timeout_seconds=self.timeout_seconds,
            max_retries=self.max_retries,
            api_key_variable=self.api_key_variable,
            request_fields=self.request_fields,
        )

    @property
    def model_id(self) -> str:
        """The served model's name."""
        return self.model

    @property
    def revision(self) -> str:
        """Weights, instruction and all settings that change a reply."""
        held = schema_tag(self._instruction.schemas) if self.schema else "free"
        return (
            f"{self.served_revision}+{self._instruction.version}"
            f"+t{self.temperature}-n{self.max_tokens}-s{self.seed}-{held}{self._served.variant}"
        )

    @cached_property
    def _instruction(self) -> AnyInstruction:
        return load_instruction(self.instruction, self.min_words, self.max_words)

    def generate(self, requests: Sequence[WritingRequest]) -> list[Reply]:
        """One reply per request, in order; at most ``concurrency`` requests in flight.

        Raises:
            EngineError: the server cannot be reached, hangs, refuses the request, or does not
                answer with a chat completion.
        """
        return self._instruction.write(requests, self.seed, self._ask)

    def _ask(self, chats: list[Chat], seeds: list[int], schema: dict[str, Any]) -> list[Reply]:
        def ask(chat: Chat, seed: int) -> Reply:
            answer = self._served.ask(
                chat,
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                seed=seed,
                **(json_schema("reply", schema) if self.schema else {}),
            )
            self.input_tokens += answer.input_tokens
            self.output_tokens += answer.output_tokens
            return answer.reply

        with ThreadPoolExecutor(min(self.concurrency, max(1, len(chats)))) as pool:
            return list(pool.map(ask, chats, seeds))
