"""Base of every prompt writer over a chat model: instruction, sampling and counts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from alignguard_data.contracts.protocols import Reply, WritingRequest
from alignguard_data.engines.text.chat import Chat, schema_tag
from alignguard_data.engines.text.steps import AnyInstruction, load_instruction


@dataclass(kw_only=True)
class ChatWriter(ABC):
    """A ``TextGenerator`` whose subclass sends chats to an engine.

    Raises:
        ValueError: ``max_tokens`` is not positive.
    """

    instruction: str = "caption_pair_v1"
    """A shipped instruction's name, or a file with steps."""
    min_words: int = 5
    """Fewest words of a prompt, as the instruction says it."""
    max_words: int = 28
    """Most words, likewise."""
    temperature: float = 0.9
    """Of sampling."""
    max_tokens: int = 200
    """Most tokens of a reply."""
    seed: int = 0
    """A reply depends on it, the concept and the request's index."""
    schema: bool = True
    """Constrain the model to the reply's JSON schema."""
    input_tokens: int = 0
    """Tokens read so far."""
    output_tokens: int = 0
    """Tokens written so far."""

    def __post_init__(self) -> None:
        if self.max_tokens <= 0:
            raise ValueError(f"max_tokens must be positive, got {self.max_tokens}")

    @cached_property
    def _instruction(self) -> AnyInstruction:
        return load_instruction(self.instruction, self.min_words, self.max_words)

    def _revision_of(self, weights: str) -> str:
        """Weights, instruction and all settings that change a reply."""
        held = schema_tag(self._instruction.schemas) if self.schema else "free"
        sampled = f"t{self.temperature}-n{self.max_tokens}-s{self.seed}"
        return f"{weights}+{self._instruction.version}+{sampled}-{held}"

    def generate(self, requests: Sequence[WritingRequest]) -> list[Reply]:
        """Write one pair per request.

        Args:
            requests: concepts and indices; a reply depends on its own request only.

        Returns:
            One reply a request, in order.

        Raises:
            EngineError: the engine cannot be reached, fails, or does not answer as it should.
        """
        return self._instruction.write(requests, self.seed, self._ask)

    @abstractmethod
    def _ask(self, chats: list[Chat], seeds: list[int], schema: dict[str, Any]) -> list[Reply]:
        """Send chats with a seed each; the schema constrains the replies if :attr:`schema`."""
