"""A guard in the manner of T2VShield: rewrites a flagged prompt, and scans what is drawn."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.safety.rules import refusal
from alignguard_train.guards.files import GuardHeader
from alignguard_train.guards.protocol import REWRITTEN, RULE, SILENT, Decision, Rewriter, failure
from alignguard_train.guards.retrieval import Examples
from alignguard_train.guards.shield.config import ShieldSettings
from alignguard_train.guards.shield.roles import explain, options, risky_words, verified
from alignguard_train.guards.shield.scan import OutputScan, Watch
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.text_guard import TextGuard

UNVERIFIED = "no_rewriting_is_verified"

log = logging.getLogger(__name__)


class Shield(TextGuard):
    """Explains, finds risky words, rewrites and verifies, at most ``rounds`` times; else blocks.

    Args:
        header: its file's.
        encoder: the encoder that the header names.
        gate: flags prompts and verifies what is written instead.
        settings: numbers of examples, words and rounds.
        examples: pairs of the release, positive and negative.
        scan: of what is drawn; None: images are not looked at.
        rewriter: writes a safe text for each prompt; None: examples and deletion serve.
    """

    def __init__(
        self,
        header: GuardHeader,
        encoder: FrozenEncoder,
        gate: TextGuard,
        settings: ShieldSettings,
        examples: Examples,
        *,
        scan: OutputScan | None = None,
        rewriter: Rewriter | None = None,
    ) -> None:
        super().__init__(header, encoder, gate.head)
        self._gate, self._settings, self._examples = gate, settings, examples
        self.scan, self._rewriter = scan, rewriter

    def changed(
        self, *, scan: OutputScan | None = None, rewriter: Rewriter | None = None
    ) -> "Shield":
        """The same guard with a learned rewriter, or with another scan.

        Args:
            scan: None: this one's.
            rewriter: None: this one's.

        Returns:
            A guard of the same file and threshold.
        """
        return Shield(
            self.header,
            self.encoder,
            self._gate,
            self._settings,
            self._examples,
            scan=scan or self.scan,
            rewriter=rewriter or self._rewriter,
        )

    def decide(self, prompts: Sequence[str]) -> list[Decision]:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        return [
            dataclasses.replace(one, action="block", reason=RULE)
            if refusal(prompt)
            else self._rewritten(prompt, one)
            if one.action == "block" and not one.failed
            else one
            for prompt, one in zip(prompts, self._gate.decide(prompts), strict=True)
        ]

    def watching(self, pipe: Any, rows: int, steps: int, texts: Sequence[str] = ()) -> Watch | None:
        """What looks at one call's images while they are drawn; None without a scan.

        Args:
            pipe: that draws.
            rows: images or videos of the call.
            steps: of the call.
            texts: for each row the text that is drawn instead of its prompt, or an empty one.

        Returns:
            Of one call only.
        """
        return None if self.scan is None else Watch(self.scan, pipe, rows, steps, texts)

    def _rewritten(self, prompt: str, blocked: Decision) -> Decision:
        try:
            text, rounds = self._written(prompt)
        except (EngineError, RuntimeError, ValueError) as error:
            log.warning("guard %s cannot rewrite, so it blocks: %s", self.name, error)
            return failure(self.threshold, type(error).__name__, truncated=blocked.truncated)
        if not text:
            return dataclasses.replace(blocked, reason=UNVERIFIED if rounds else SILENT)
        reason = f"{REWRITTEN}: round {rounds}"
        return dataclasses.replace(blocked, action="rewrite", reason=reason, prompt=text)

    def _written(self, prompt: str) -> tuple[str, int]:
        """The verified text and the round it is of; an empty text: none, after so many rounds."""
        how, text = self._settings, prompt
        names = [name for _, name in self.header.settings["concepts"]]
        for round in range(1, how.rounds + 1):
            (near,) = self._examples.nearest([text], how.nearest)
            because = explain(text, self.score)
            risky = risky_words(because, near, self.score, self.threshold, how.deleted, names)
            written = self._rewriter.rewrite([text])[0] if self._rewriter else ""
            found = options(text, risky, near, written, names)
            if kept := verified(found, self.score, self.threshold):
                return kept, round
            if not found:
                return "", round - 1
            text = found[0]
        return "", how.rounds
