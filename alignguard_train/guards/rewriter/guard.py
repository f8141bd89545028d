"""A guard that rewrites: flag, write a safe text, verify it, else block."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_data.safety.rules import refusal
from alignguard_train.guards.config import RewriterSettings
from alignguard_train.guards.files import GuardHeader
from alignguard_train.guards.protocol import FAILED, REWRITTEN, Decision, Guard, Rewriter
from alignguard_train.guards.rewriter.language import LanguageRewriter
from alignguard_train.guards.rewriter.selection import EMPTY, chosen, retention
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.text_guard import Head, TextGuard

RULES = "refused_by_rules"

log = logging.getLogger(__name__)


class Rewriting:
    """Any guard with any rewriter: what the guard blocks is rewritten if the guard allows it then.

    A rewriter that fails or answers nothing blocks, counted as a failure. A prompt that the safety
    rules refuse is blocked and never rewritten, whatever the guard says.

    Args:
        guard: flags prompts and verifies rewrites.
        rewriter: writes.
        terms: concept key to its terms; a rewrite names no concept that its prompt names.
    """

    def __init__(
        self, guard: Guard, rewriter: Rewriter, terms: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._guard, self.rewriter = guard, rewriter
        self._terms = dict(terms or {})

    @property
    def name(self) -> str:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        return f"{self._guard.name} with a rewriter"

    @property
    def threshold(self) -> float:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        return self._guard.threshold

    def score(self, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        return self._guard.score(prompts)

    def decide(self, prompts: Sequence[str]) -> list[Decision]:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        decided = self._guard.decide(prompts)
        found = list(decided)
        flagged: list[int] = []
        for i, (prompt, one) in enumerate(zip(prompts, decided, strict=True)):
            if refusal(prompt):
                found[i] = dataclasses.replace(one, action="block", reason=RULES, prompt=None)
            elif one.action == "block" and not one.failed:
                flagged.append(i)
        if not flagged:
            return found
        candidates = self._candidates([prompts[i] for i in flagged])
        for i, own in zip(flagged, candidates, strict=True):
            found[i] = self._rewritten(prompts[i], decided[i], own)
        return found

    def check(self, pipe: Pipe) -> None:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        self._guard.check(pipe)

    def soften(self, pipe: Pipe) -> Pipe:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        return self._guard.soften(pipe)

    def _written(self, prompts: list[str]) -> list[list[str]]:
        return [[text] for text in self.rewriter.rewrite(prompts)]

    def _candidates(self, prompts: list[str]) -> list[list[str]]:
        """Candidates of each prompt; none where the rewriter fails."""
        try:
            found = self._written(prompts)
        except (EngineError, RuntimeError, ValueError, KeyError) as error:
            log.warning("the rewriter failed, so its guard blocks: %s", type(error).__name__)
            return [[] for _ in prompts]
        if len(found) != len(prompts):
            log.warning("the rewriter answered %d of %d prompts", len(found), len(prompts))
            return [[] for _ in prompts]
        return found

    def _rewritten(self, prompt: str, blocked: Decision, candidates: Sequence[str]) -> Decision:
        text, why = chosen(prompt, candidates, self._guard, self._terms)
        if why == EMPTY:
            return dataclasses.replace(blocked, reason=f"{FAILED}: {EMPTY}", failed=True)
        if not text:
            return dataclasses.replace(blocked, reason=f"{blocked.reason}: {why}")
        kept = retention(prompt, text)
        return dataclasses.replace(
            blocked, action="rewrite", reason=f"{REWRITTEN}: {kept:.0%} of the words", prompt=text
        )


class RewriterGuard(TextGuard):
    """The rewriter of a guard's file: a logistic probe flags and verifies, a language model writes.

    Args:
        header: its file's.
        encoder: the encoder that the header names.
        head: the probe.
        rewriter: the trained language model.
        settings: number of candidates and their temperature.
        terms: concept key to its terms, of the concepts of its training.
    """

    def __init__(
        self,
        header: GuardHeader,
        encoder: FrozenEncoder,
        head: Head,
        rewriter: LanguageRewriter,
        settings: RewriterSettings,
        terms: Mapping[str, Sequence[str]],
    ) -> None:
        super().__init__(header, encoder, head)
        self.rewriter = rewriter
        probe = TextGuard(header, encoder, head)
        self._rewriting = _Sampled(probe, rewriter, settings, terms)

    def decide(self, prompts: Sequence[str]) -> list[Decision]:
        """See :class:`Rewriting`."""
        return self._rewriting.decide(prompts)


class _Sampled(Rewriting):
    """Several candidates a prompt."""

    def __init__(
        self,
        guard: Guard,
        rewriter: LanguageRewriter,
        settings: RewriterSettings,
        terms: Mapping[str, Sequence[str]],
    ) -> None:
        super().__init__(guard, rewriter, terms)
        self._language, self._settings = rewriter, settings

    def _written(self, prompts: list[str]) -> list[list[str]]:
        return self._language.candidates(
            prompts, self._settings.candidates, temperature=self._settings.temperature
        )
