"""Writes prompt pairs with any served model that speaks OpenAI's chat protocol (vLLM, llama.cpp).

Replies that an earlier batch got are kept by the room, so that an error loses none of them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

from alignguard_data.backends.chat import SCHEMA, Instruction, request_seed
from alignguard_data.backends.served import LOCAL, ServedModel, json_schema, reply_text
from alignguard_data.protocols import WritingRequest


@dataclass(kw_only=True)
class OpenAIWriter:
    """A ``TextGenerator``; building it is light, the client is made at the first request.

    ``served_revision`` names the weights behind ``model``: the server does not say. Where it is
    served: :class:`ServedModel`.
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
        if self.max_tokens <= 0:
            raise ValueError(f"max_tokens must be positive, got {self.max_tokens}")
        self._served = ServedModel(
            model=self.model,
            base_url=self.base_url,
            concurrency=self.concurrency,
            timeout_seconds=self.timeout_seconds,
            max_retries=self.max_retries,
            api_key_variable=self.api_key_variable,
        )

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

    def generate(self, requests: Sequence[WritingRequest]) -> list[str]:
        """One reply a request, in order; at most ``concurrency`` are asked at a time.

        Raises:
            EngineError: the server cannot be reached, hangs, or refuses the request itself.
        """
        with ThreadPoolExecutor(min(self.concurrency, max(1, len(requests)))) as pool:
            return list(pool.map(self._ask, requests))

    def _ask(self, request: WritingRequest) -> str:
        answer = self._served.ask(
            self._instruction.messages(request, self.seed),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=request_seed(request, self.seed),
            **(json_schema("prompt_pair", SCHEMA) if self.schema else {}),
        )
        if answer.usage:
            self.input_tokens += answer.usage.prompt_tokens
            self.output_tokens += answer.usage.completion_tokens
        return reply_text(answer)
