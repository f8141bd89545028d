"""Writes prompt pairs with a model served over OpenAI's chat protocol (vLLM, llama.cpp).

The room saves the replies of earlier batches, so an error loses none of them.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from alignguard_data.contracts.protocols import Reply
from alignguard_data.engines.served import LOCAL, ServedModel, json_schema
from alignguard_data.engines.text.chat import Chat
from alignguard_data.engines.text.writer import ChatWriter


@dataclass(kw_only=True)
class OpenAIWriter(ChatWriter):
    """A ``TextGenerator`` that builds its client at the first request.

    At most ``concurrency`` requests are in flight.

    Raises:
        ValueError: a setting is invalid.
    """

    model: str
    """Its name on the server."""
    served_revision: str
    """The weights behind ``model``, which the server does not report."""
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
    """This server's name for a field of a request, or None if it refuses the field."""

    def __post_init__(self) -> None:
        super().__post_init__()
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
        return f"{self._revision_of(self.served_revision)}{self._served.variant}"

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
