"""What a guard is: a score, a threshold, and a decision with its reason. No torch.

A guard reads a prompt before the model draws. A higher score is more unsafe. A guard that fails
decides ``block``: the failure is counted apart and is never a detection.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from alignguard_data.engines.diffusion.conditions import Pipe

Action = Literal["allow", "block", "rewrite", "soften"]
"""Draw the prompt; draw nothing; draw another text; draw the prompt under guidance."""

BELOW = "below_threshold"
FLAGGED = "flagged"
FAILED = "guard_failed"
EMPTY_BLACKLIST = "empty_blacklist"
REWRITTEN = "rewritten"
ALWAYS = "always_on"
SOFTENED = "softened"
RULE = "a_safety_rule_refuses_the_prompt"
SILENT = "rewriter_answers_nothing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do with one prompt, and why.

    Attributes:
        action: what to do.
        reason: a slug, followed by a colon and a detail where there is one, such as the concept
            that matched.
        score: higher is more unsafe; NaN if the guard failed; -inf if nothing was compared.
        threshold: a score of this or more is unsafe.
        failed: the guard could not score the prompt, so it blocks.
        truncated: the prompt is longer than the encoder reads; the decision is about what it reads,
            which is also all that the model draws.
        prompt: the text to draw instead, for ``rewrite``.
    """

    action: Action
    reason: str
    score: float
    threshold: float
    failed: bool = False
    truncated: bool = False
    prompt: str | None = None

    def __post_init__(self) -> None:
        if (self.action == "rewrite") != (self.prompt is not None):
            raise ValueError(f"a rewrite needs a text and no other action has one: {self}")


class Guard(Protocol):
    """A trained or training-free guard with its threshold.

    Attributes:
        name: in results and on the command line.
        threshold: a score of this or more is unsafe.
    """

    @property
    def name(self) -> str:
        """See above."""
        ...

    @property
    def threshold(self) -> float:
        """See above."""
        ...

    def score(self, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Scores (len(prompts),); higher is more unsafe."""
        ...

    def decide(self, prompts: Sequence[str]) -> list[Decision]:
        """One decision per prompt; a failure of the guard blocks."""
        ...

    def check(self, pipe: "Pipe") -> None:
        """Refuse a pipe that this guard was not made for.

        Args:
            pipe: a diffusers pipe.

        Raises:
            EngineError: its text encoder is another one; names both.
        """
        ...

    def soften(self, pipe: "Pipe") -> "Pipe":
        """The pipe that draws the prompts whose decision is ``soften``.

        Args:
            pipe: a diffusers pipe.

        Returns:
            A pipe that is called as the given one.

        Raises:
            EngineError: this guard never softens.
        """
        ...


class Rewriter(Protocol):
    """Writes a safe text for each unsafe prompt."""

    def rewrite(self, prompts: Sequence[str]) -> list[str]:
        """Safe counterparts of prompts.

        Args:
            prompts: unsafe prompts, any number.

        Returns:
            A text for each prompt, in order; an empty one where the rewriter answers nothing. The
            texts are not verified: the caller asks a guard whether each may be drawn.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """Numbers of decisions. ``failed`` are blocked too, but are in no other number."""

    allowed: int = 0
    blocked: int = 0
    rewritten: int = 0
    softened: int = 0
    failed: int = 0


def tally(decisions: Iterable[Decision]) -> Tally:
    """Count decisions; a failure counts as failed only.

    Args:
        decisions: of any number of prompts.

    Returns:
        Numbers by action.
    """
    names = {"allow": "allowed", "block": "blocked", "rewrite": "rewritten", "soften": "softened"}
    counts = dict.fromkeys((*names.values(), "failed"), 0)
    for one in decisions:
        counts["failed" if one.failed else names[one.action]] += 1
    return Tally(**counts)


def by_threshold(
    score: float, threshold: float, *, detail: str = "", truncated: bool = False
) -> Decision:
    """Block at the threshold and above; a score that is no number is a failure.

    Args:
        score: higher is more unsafe.
        threshold: the guard's.
        detail: what matched, for the reason.
        truncated: the prompt is longer than the encoder reads.

    Returns:
        ``block`` or ``allow``; a failure blocks and is marked as one.
    """
    if math.isnan(score):
        return failure(threshold, "the score is not a number", truncated=truncated)
    unsafe = score >= threshold
    reason = f"{FLAGGED}: {detail}" if unsafe and detail else FLAGGED if unsafe else BELOW
    return Decision(
        action="block" if unsafe else "allow",
        reason=reason,
        score=score,
        threshold=threshold,
        truncated=truncated,
    )


def failure(threshold: float, why: str, *, truncated: bool = False) -> Decision:
    """The decision of a guard that could not score: block, counted apart."""
    return Decision(
        action="block",
        reason=f"{FAILED}: {why}",
        score=math.nan,
        threshold=threshold,
        failed=True,
        truncated=truncated,
    )
