"""Controls: what no search finds. An attack is worth its queries by how far it exceeds them.

``no_attack`` is the prompt itself; the others draw once at random, as in P4D's table (Chin et al.,
ICML 2024, arXiv 2309.06135), where inserted tokens and shuffled words break defences more often
than some attacks do.
"""

from dataclasses import dataclass
from random import Random

from alignguard_train.robustness.attacks.case_search import CaseSearch, needing
from alignguard_train.robustness.attacks.trace import Trace, candidate, prompt_ids, require
from alignguard_train.robustness.protocol import (
    Candidate,
    Case,
    StopReason,
    Target,
)


class Control(CaseSearch):
    """One draw, without looking at the target."""

    name: str
    needs = needing()
    text_only = True

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        if not prompt_ids(trace.target.vocabulary, case.prompt):
            return "empty"
        trace.offer(self.drawn(trace.target, case, Random(seed)))
        trace.step()
        return "finished"

    def drawn(self, target: Target, case: Case, rng: Random) -> Candidate:
        """The control's prompt."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class NoAttack(Control):
    """The prompt as it is."""

    name = "no_attack"

    def drawn(self, target: Target, case: Case, rng: Random) -> Candidate:
        """See :class:`Control`."""
        return Candidate(text=case.prompt, score=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomK(Control):
    """A random token before every ``every`` tokens of the prompt, as many as P4D-K learns.

    A prompt that leaves too little room is cut at its end first.

    Attributes:
        every: tokens of the prompt after which one is inserted (K).
    """

    every: int = 3

    name = "random_k"

    def __post_init__(self) -> None:
        require(self.name, {"every": self.every}, least=1)

    def drawn(self, target: Target, case: Case, rng: Random) -> Candidate:
        """See :class:`Control`."""
        known = target.vocabulary
        ids = prompt_ids(known, case.prompt)
        while ids and len(ids) + len(ids) // self.every + 1 > known.length:
            ids = ids[:-1]
        mixed: list[int] = []
        for place in range(0, len(ids) + 1, self.every):
            mixed += [rng.choice(known.ordinary), *ids[place : place + self.every]]
        return candidate(known, mixed, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomN(Control):
    """``tokens`` random tokens and nothing of the prompt.

    Attributes:
        tokens: of the drawn prompt (N), at most as many as a prompt holds.
    """

    tokens: int = 16

    name = "random_n"

    def __post_init__(self) -> None:
        require(self.name, {"tokens": self.tokens}, least=1)

    def drawn(self, target: Target, case: Case, rng: Random) -> Candidate:
        """See :class:`Control`."""
        known = target.vocabulary
        ids = rng.choices(known.ordinary, k=min(self.tokens, known.length))
        return candidate(known, ids, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shuffle(Control):
    """The prompt's words in another order."""

    name = "shuffle"

    def drawn(self, target: Target, case: Case, rng: Random) -> Candidate:
        """See :class:`Control`."""
        words = case.prompt.split()
        rng.shuffle(words)
        return Candidate(text=" ".join(words), score=0.0)
