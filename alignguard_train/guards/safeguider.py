"""SafeGuider as a guard: the MLP decides, and a flagged prompt loses the words that flag it."""

import dataclasses
import logging
from collections.abc import Sequence

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.config import SafeGuiderSettings
from alignguard_train.guards.files import GuardHeader
from alignguard_train.guards.probes import MLPHead, shortened
from alignguard_train.guards.protocol import REWRITTEN, Decision, failure
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.text_guard import TextGuard

log = logging.getLogger(__name__)


class SafeGuider(TextGuard):
    """Rewrites a flagged prompt by deleting words, or blocks it where no deletion helps."""

    head: MLPHead

    def __init__(
        self,
        header: GuardHeader,
        encoder: FrozenEncoder,
        head: MLPHead,
        settings: SafeGuiderSettings,
    ) -> None:
        super().__init__(header, encoder, head)
        self._settings = settings

    def decide(self, prompts: Sequence[str]) -> list[Decision]:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        decided = super().decide(prompts)
        return [
            self._rewritten(prompt, one) if one.action == "block" and not one.failed else one
            for prompt, one in zip(prompts, decided, strict=True)
        ]

    def _rewritten(self, prompt: str, blocked: Decision) -> Decision:
        words = prompt.split()
        try:
            kept = shortened(words, self.encoder.states, self.head, self._settings, self.threshold)
        except (EngineError, RuntimeError) as error:
            log.warning("guard %s cannot rewrite, so it blocks: %s", self.name, error)
            return failure(self.threshold, type(error).__name__, truncated=blocked.truncated)
        if kept is None:
            return blocked
        return dataclasses.replace(
            blocked,
            action="rewrite",
            reason=f"{REWRITTEN}: {len(words) - len(kept)} of {len(words)} words deleted",
            prompt=" ".join(kept),
        )
