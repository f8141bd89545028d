"""Engines that a test's profile names: they are faulty as a file says, which the test can mend."""

import json
from collections.abc import Sequence
from pathlib import Path

from alignguard_data.contracts.protocols import Reply, WritingRequest
from alignguard_data.standin.writer import StandinWriter

GARBAGE = "<think>[/INST] no pair 7"
"""Not one letter of it may reach a terminal."""


class FaultyWriter:
    """The stand-in's writer.

    ``faults`` is a JSON file: concept key, or ``*``, to how many requests of six are answered; the
    others get garbage. Without the file all are answered.
    """

    model_id = "faulty"
    revision = "1"

    def __init__(self, *, faults: str) -> None:
        self._file, self._writer = Path(faults), StandinWriter(seed=0)

    def generate(self, requests: Sequence[WritingRequest]) -> list[Reply]:
        """One reply a request."""
        faults = json.loads(self._file.read_text()) if self._file.exists() else {}
        replies = []
        for request, reply in zip(requests, self._writer.generate(requests), strict=True):
            answered = faults.get(request.concept.key, faults.get("*", 6))
            replies.append(reply if request.index % 6 < answered else Reply(text=GARBAGE))
        return replies
