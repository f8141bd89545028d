"""Which test prompts occur in train.

Word for word, or in canonical form (case, width of gaps, and everything else that :func:`canonical`
folds).
"""

from collections.abc import Sequence
from typing import Literal

from alignguard_data.contracts.text import canonical
from alignguard_data.importing.coprov2.files import CsvFile

Leak = Literal["exact", "casefolded", ""]


class TrainPrompts:
    """All prompts of the train files, of both sides, including rejected rows."""

    def __init__(self, files: Sequence[CsvFile]) -> None:
        train = (row.prompt for file in files if file.part == "train" for row in file.rows)
        self._exact = {prompt for prompt in train if prompt}
        self._folded = {canonical(prompt) for prompt in self._exact}

    def leak(self, prompt: str) -> Leak:
        """How ``prompt`` occurs in train; empty if it does not."""
        if prompt in self._exact:
            return "exact"
        return "casefolded" if canonical(prompt) in self._folded else ""
