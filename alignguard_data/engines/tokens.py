"""Counts prompt tokens with the base model's tokenizer, which loads at the first prompt."""

from functools import cached_property
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.weights import tokenizer_revision


class TokenCounter:
    """Callable: number of tokens of a prompt with start and end tokens, not truncated."""

    def __init__(self, model: str, revision: str | None = None) -> None:
        self._source = ModelSource(model, revision)

    @property
    def version(self) -> str:
        """Hash of the tokenizer files of a folder, or a hub id's commit."""
        folder = self._source.folder
        return tokenizer_revision(folder) if folder else self._source.revision

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        model = self._source.model
        try:
            found = CLIPTokenizer.from_pretrained(subfolder="tokenizer", **self._source.arguments)
        except (OSError, ValueError) as error:
            raise EngineError(f"{model} has no readable tokenizer: {error}") from error
        # Without its files transformers builds a tokenizer with an empty vocabulary.
        if len(found) <= len(found.all_special_tokens):
            raise EngineError(f"{model} has no readable tokenizer: its vocabulary is empty")
        return found

    def __call__(self, prompt: str) -> int:
        """Number of tokens of the prompt."""
        # Otherwise it warns about each long prompt, which is what this counts.
        return len(self._tokenizer(prompt, truncation=False, verbose=False)["input_ids"])
