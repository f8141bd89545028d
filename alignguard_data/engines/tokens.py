"""Counts the tokens of a prompt as the base model's own tokenizer does; loads at the first one."""

from functools import cached_property
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.weights import tokenizer_revision


class TokenCounter:
    """Call it with a prompt: its number of tokens, start and end included, nothing cut off."""

    def __init__(self, model: str, revision: str | None = None) -> None:
        self._model = model
        self._where: dict[str, Any] = {} if Path(model).is_dir() else {"revision": revision}

    @property
    def version(self) -> str:
        """Hash of the tokenizer's files in a folder, or a hub id's commit."""
        folder = Path(self._model)
        return tokenizer_revision(folder) if folder.is_dir() else str(self._where["revision"])

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        try:
            found = CLIPTokenizer.from_pretrained(self._model, subfolder="tokenizer", **self._where)
        except (OSError, ValueError) as error:
            raise EngineError(f"{self._model} has no readable tokenizer: {error}") from error
        # Without its files the library makes one up that knows no word.
        if len(found) <= len(found.all_special_tokens):
            raise EngineError(f"{self._model} has no readable tokenizer: its vocabulary is empty")
        return found

    def __call__(self, prompt: str) -> int:
        # Verbose, it would warn of every long prompt, which is what it is asked about.
        return len(self._tokenizer(prompt, truncation=False, verbose=False)["input_ids"])
