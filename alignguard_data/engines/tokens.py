"""Counts prompt tokens with the base model's tokenizer, which loads at the first prompt."""

from functools import cached_property
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.weights import tokenizer_revision


class TokenCounter:
    """Callable: number of tokens of a prompt with start and end tokens, not truncated."""

    def __init__(self, model: str, revision: str | None = None) -> None:
        self._model = model
        self._where: dict[str, Any] = {} if Path(model).is_dir() else {"revision": revision}

    @property
    def version(self) -> str:
        """Hash of the tokenizer files of a folder, or a hub id's commit."""
        folder = Path(self._model)
        return tokenizer_revision(folder) if folder.is_dir() else str(self._where["revision"])

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        try:
            found = CLIPTokenizer.from_pretrained(self._model, subfolder="tokenizer", **self._where)
        except (OSError, ValueError) as error:
            raise EngineError(f"{self._model} has no readable tokenizer: {error}") from error
        # Without its files transformers builds a tokenizer with an empty vocabulary.
        if len(found) <= len(found.all_special_tokens):
            raise EngineError(f"{self._model} has no readable tokenizer: its vocabulary is empty")
        return found

    def __call__(self, prompt: str) -> int:
        """Number of tokens of the prompt."""
        # Otherwise it warns about each long prompt, which is what this counts.
        return len(self._tokenizer(prompt, truncation=False, verbose=False)["input_ids"])
