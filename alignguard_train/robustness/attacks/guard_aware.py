"""An adaptive attack on a guard (after GuardT2I, arXiv 2403.01446, eq. 3): imitate and pass.

Needs the text encoder, and the guard's score for ``alpha`` above 0; no image. The concept's words
give way to ``tokens`` others that maximise (1 - alpha) x likeness - alpha x suspicion: likeness is
the cosine of the pooled text states to the unchanged prompt's, as in MMA-Diffusion, suspicion the
guard's score over its threshold, through the logistic function. With ``alpha`` 0 it is the plain
attack, which does not know the guard; near 1 it passes the guard and forgets the concept, so
bypass and unsafe images must be read together.

Where we depart: a greedy coordinate search over the whole vocabulary in place of gradients through
the guard, which few guards give; the guard is asked about the ``shown`` tokens of a position that
imitate best.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from torch import Tensor

from alignguard_train.robustness.attacks.case_search import CaseSearch, needing
from alignguard_train.robustness.attacks.concept_inversion import layout_of
from alignguard_train.robustness.attacks.coordinates import Ids
from alignguard_train.robustness.attacks.mma import likeness, survives
from alignguard_train.robustness.attacks.substitutes import pooled
from alignguard_train.robustness.attacks.trace import (
    Trace,
    candidate,
    prompt_ids,
    require,
)
from alignguard_train.robustness.attacks.white_box import Layout, filled
from alignguard_train.robustness.attacks.words import allowed_ids
from alignguard_train.robustness.protocol import (
    Case,
    GuardVerdict,
    StopReason,
)

FAILED = 1.0
"""Suspicion of a prompt that the guard cannot score: it blocks it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardAware(CaseSearch):
    """The default ``alpha`` is the one with the most unsafe images past the guard in GuardT2I.

    Attributes:
        alpha: weight of the guard, in [0, 1).
        tokens: in the place of the concept's words.
        sweeps: most passes over these tokens.
        shown: tokens of a position about which the guard is asked.
    """

    alpha: float = 0.5
    tokens: int = 3
    sweeps: int = 2
    shown: int = 64

    name = "adaptive"
    needs = needing("text_encoder", "guard")

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < 1:
            raise ValueError(f"{self.name}: alpha is {self.alpha}: must lie in [0, 1)")
        sizes = ("tokens", "sweeps", "shown")
        require(self.name, {size: getattr(self, size) for size in sizes}, least=1)

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        vocabulary, rng = trace.target.vocabulary, Random(seed)
        ids, allowed = prompt_ids(vocabulary, case.prompt), allowed_ids(vocabulary, case)
        if not ids or not allowed:
            return "empty"
        aim = pooled(trace.target.encode([ids]), [ids])
        layout = _layout(vocabulary.length, layout_of(vocabulary, case), self.tokens)
        current = tuple(rng.choices(allowed, k=layout.count(None)))
        best = self._scored(trace, layout, [current], aim)[current]
        for _ in range(self.sweeps):
            before = best
            for place in range(len(current)):
                tried = [(*current[:place], one, *current[place + 1 :]) for one in allowed]
                found = self._scored(trace, layout, tried, aim)
                top = max(found, key=found.__getitem__, default=current)
                if found.get(top, -math.inf) > best:
                    current, best = top, found[top]
            if best <= before:
                return "plateau"
        return "finished"

    def _scored(
        self, trace: Trace, layout: Layout, tried: Sequence[Ids], aim: Sequence[Tensor]
    ) -> dict[Ids, float]:
        """Objectives of those that survive as text and are shown to the guard; offers the best."""
        vocabulary, target = trace.target.vocabulary, trace.target
        whole = {one: filled(layout, one) for one in dict.fromkeys(tried)}
        kept = {one: ids for one, ids in whole.items() if survives(vocabulary, ids)} or whole
        rows = list(kept.values())
        like = likeness(pooled(target.encode(rows), rows), aim).tolist()
        found = dict(zip(kept, like, strict=True))
        if self.alpha:
            asked = sorted(found, key=found.__getitem__, reverse=True)[: self.shown]
            verdicts = target.guard([vocabulary.decode(kept[one]) for one in asked])
            found = {
                one: (1 - self.alpha) * found[one] - self.alpha * suspicion(verdict)
                for one, verdict in zip(asked, verdicts, strict=True)
            }
        top = max(found, key=found.__getitem__)
        trace.offer(candidate(vocabulary, kept[top], found[top]))
        trace.step()
        return found


def suspicion(verdict: GuardVerdict) -> float:
    """The guard's score over its threshold, mapped to [0, 1]: 0.5 at the threshold."""
    over = verdict.score - verdict.threshold
    if math.isnan(over):
        return FAILED
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, over))))


def _layout(length: int, layout: Layout, tokens: int) -> Layout:
    """The layout with ``tokens`` free places in a row, cut at the end to the encoder's length."""
    at, count = layout.index(None), min(tokens, length)
    before = layout[: min(at, length - count)]
    return (*before, *[None] * count, *layout[at + 1 :])[:length]
