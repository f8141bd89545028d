"""Which prompts of test stand in train: word for word, or but for case and the width of gaps."""

from collections.abc import Sequence
from typing import Literal

from alignguard_data.importing.coprov2_files import CsvFile

Leak = Literal["exact", "casefolded", ""]


class TrainPrompts:
    """Every prompt of the train files, of both sides, rejected rows too."""

    def __init__(self, files: Sequence[CsvFile]) -> None:
        train = (row.prompt for file in files if file.part == "train" for row in file.rows)
        self._exact = {prompt for prompt in train if prompt}
        self._folded = {_folded(prompt) for prompt in self._exact}

    def leak(self, prompt: str) -> Leak:
        """How ``prompt`` occurs in train; empty if it does not."""
        if prompt in self._exact:
            return "exact"
        return "casefolded" if _folded(prompt) in self._folded else ""


def _folded(prompt: str) -> str:
    return " ".join(prompt.casefold().split())
