"""What every search keeps: its counted target, its best candidates and how the score rose."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Pixels
from alignguard_train.robustness.counting import Counted, check_needs
from alignguard_train.robustness.protocol import (
    Attack,
    Budget,
    BudgetSpent,
    Candidate,
    Case,
    Counters,
    Found,
    JudgeFailed,
    StopReason,
    Target,
    Verdict,
    Vocabulary,
)

log = logging.getLogger(__name__)

KEPT = 8
"""Candidates of a search that are returned."""


def counted(target: Target) -> Counted:
    """The target, counted: itself if it already is, else without limits."""
    return target if isinstance(target, Counted) else Counted(target, Budget())


class Trace:
    """The course of one search.

    Args:
        target: counted from now on.

    Attributes:
        target: counted.
        notes: further numbers of the attack, by name.
    """

    def __init__(self, target: Target) -> None:
        self.target = counted(target)
        self.notes: dict[str, float] = {}
        self._before = self.target.counters
        self._best: dict[str, Candidate] = {}
        self._history: list[float] = []

    @property
    def best(self) -> Candidate | None:
        """The best candidate so far; the first of equal ones."""
        return max(self._best.values(), key=lambda one: one.score, default=None)

    def offer(self, candidate: Candidate) -> None:
        """Keep a candidate if it is among the best; of equal texts the better score counts."""
        known = self._best.get(candidate.text)
        if known is not None and known.score >= candidate.score:
            return
        self._best[candidate.text] = candidate
        if len(self._best) > KEPT:
            del self._best[min(self._best.values(), key=lambda one: one.score).text]

    def step(self) -> None:
        """A step of the search ends: note the best score."""
        if self.best is not None:
            self._history.append(self.best.score)

    def stalled(self, patience: int | None) -> bool:
        """Whether the last ``patience`` steps brought no better score; None never stalls."""
        if patience is None or len(self._history) <= patience:
            return False
        return self._history[-1] <= self._history[-1 - patience]

    def ended(self, done: bool, patience: int | None) -> StopReason | None:
        """End a step of the search; why it was the last one, if it was.

        Args:
            done: what the search looks for is found.
            patience: steps without a better score; None for any number.

        Returns:
            The reason to stop; None to go on.
        """
        self.step()
        if done:
            return "success"
        return "plateau" if self.stalled(patience) else None

    def judged(self, images: Pixels, case: Case) -> list[Verdict]:
        """Ask the judge.

        Args:
            images: (rows, height, width, 3).
            case: for which they were made.

        Returns:
            One verdict per image.

        Raises:
            JudgeFailed: the judge raised an EngineError.
        """
        return judged(self.target, images, case)

    def found(self, reason: StopReason, only: Candidate | None = None) -> Found:
        """The result; ``only``: the single candidate that the published method returns."""
        used = self.target.counters
        spent = {
            one.name: getattr(used, one.name) - getattr(self._before, one.name)
            for one in fields(Counters)
        }
        ranked = sorted(self._best.values(), key=lambda one: -one.score)
        return Found(
            candidates=(only,) if only is not None else tuple(ranked),
            counters=Counters(**spent),
            history=tuple(self._history),
            stop_reason=reason,
            notes=self.notes,
        )


def judged(target: Target, images: Pixels, case: Case) -> list[Verdict]:
    """Ask a target's judge.

    Args:
        target: counted.
        images: (rows, height, width, 3).
        case: for which they were made.

    Returns:
        One verdict per image.

    Raises:
        JudgeFailed: the judge raised an EngineError.
    """
    try:
        return target.judge(images, case)
    except EngineError as error:
        raise JudgeFailed(str(error)) from error


def traced(attack: Attack, target: Target, body: Callable[[Trace], StopReason | Found]) -> Found:
    """Run a search's body until it ends, the budget is spent or the judge fails.

    Args:
        attack: what it needs is checked first.
        target: counted, or counted here without limits.
        body: searches, and says why it ended or what it found.

    Returns:
        The body's own result, or the best candidates so far.

    Raises:
        EngineError: the target lacks a capability.
    """
    check_needs(attack, target)
    trace = Trace(target)
    try:
        ended = body(trace)
    except BudgetSpent as spent:
        log.info("%s on %s: %s", attack.name, target.name, spent)
        ended = "budget"
    except JudgeFailed as failed:
        log.warning("%s on %s: the judge failed: %s", attack.name, target.name, failed)
        ended = "judge_failed"
    return ended if isinstance(ended, Found) else trace.found(ended)


def prompt_ids(vocabulary: Vocabulary, text: str, *, room: int = 0) -> tuple[int, ...]:
    """The prompt's ids, cut so that ``room`` more tokens fit; logs a cut."""
    ids = vocabulary.tokenize(text)
    most = max(vocabulary.length - room, 0)
    if len(ids) > most:
        log.info("a prompt of %d tokens is cut to %d", len(ids), most)
    return ids[:most]


def candidate(vocabulary: Vocabulary, ids: Sequence[int], score: float) -> Candidate:
    """A candidate of searched ids, with whether its text gives the same ids."""
    text = vocabulary.decode(ids)
    return Candidate(text=text, score=score, round_trip=vocabulary.tokenize(text) == tuple(ids))


def require(name: str, values: Mapping[str, float], *, least: float) -> None:
    """Refuse parameters of an attack that are too small.

    Args:
        name: of the attack.
        values: by the parameter's name.
        least: the smallest value that is allowed.

    Raises:
        ValueError: names every such field with its value.
    """
    if wrong := [f"{key} is {value}" for key, value in values.items() if not value >= least]:
        raise ValueError(f"{name}: must be {least} or more: {', '.join(wrong)}")
