"""MMA-Diffusion's text attack (Yang et al., CVPR 2024, arXiv 2311.17516): GCG on text encoders.

Needs the text encoder with gradients to tokens; no image, no query of the defended model. It looks
for tokens without the concept's words whose pooled text state has the same direction as the
prompt's: the objective is the cosine, by greedy coordinate gradient (arXiv 2307.15043).

Where we depart: forbidden are tokens that hold a word of the concept and the sub-tokens of its
words, instead of a list of eighteen words; the gradient of a position is that of its own token (the
released code is one off, because of the begin token); a batch has no repeated candidates; a
candidate's text must give exactly its ids. SDXL: the mean of two cosines, of the second encoder's
pooled state and of both encoders' states at the end token, as the first encoder's pooled state is
no condition of its UNet. ``exact`` replaces the gradient by an exhaustive search, the oracle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from alignguard_train.robustness.attacks.case_search import CaseSearch
from alignguard_train.robustness.attacks.coordinates import Ids, Scores, coordinate_search
from alignguard_train.robustness.attacks.substitutes import pooled
from alignguard_train.robustness.attacks.trace import (
    Trace,
    candidate,
    prompt_ids,
    require,
)
from alignguard_train.robustness.attacks.weighted_tokens import one_hot
from alignguard_train.robustness.attacks.words import allowed_ids
from alignguard_train.robustness.protocol import (
    Capability,
    Case,
    StopReason,
    Target,
    Vocabulary,
)


def likeness(found: Sequence[Tensor], aim: Sequence[Tensor]) -> Tensor:
    """Mean cosine over the parts of unit vectors: (rows,)."""
    return torch.stack([(a * b).sum(-1) for a, b in zip(found, aim, strict=True)]).mean(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class MMA(CaseSearch):
    """The defaults are the published ones.

    Attributes:
        tokens: of a candidate, at most as many as a prompt holds.
        steps: of the search; sweeps over the positions if it is ``exact``.
        top: tokens of each position with the steepest gradient, of which candidates are made.
        candidates: tried at each step, each with one token replaced.
        exact: every allowed token at every position instead, as long as the score rises.
        patience: steps without a better score after which it ends; None for no end.
    """

    tokens: int = 20
    steps: int = 1000
    top: int = 256
    candidates: int = 512
    exact: bool = False
    patience: int | None = None

    text_only = True

    def __post_init__(self) -> None:
        sizes = ("tokens", "steps", "top", "candidates")
        require(self.name, {size: getattr(self, size) for size in sizes}, least=1)

    @property
    def name(self) -> str:
        """See :class:`alignguard_train.robustness.protocol.Attack`."""
        return "mma_exact" if self.exact else "mma"

    @property
    def needs(self) -> frozenset[Capability]:
        """The text encoder, and gradients unless it is exact."""
        if self.exact:
            return frozenset(("text_encoder",))
        return frozenset(("text_encoder", "token_gradients"))

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        vocabulary, rng = trace.target.vocabulary, Random(seed)
        ids, allowed = prompt_ids(vocabulary, case.prompt), allowed_ids(vocabulary, case)
        if not ids or not allowed:
            return "empty"
        aim = pooled(trace.target.encode([ids]), [ids])
        start = self._start(vocabulary, allowed, rng)
        if self.exact:
            scores = _scorer(trace, aim)
            coordinate_search(scores, start, allowed, sweeps=self.steps)
            return "finished"
        return self._descend(trace, aim, start, allowed, rng)

    def _descend(
        self, trace: Trace, aim: Sequence[Tensor], start: Ids, allowed: Sequence[int], rng: Random
    ) -> StopReason:
        scores, current = _scorer(trace, aim), start
        scores([current])
        for _ in range(self.steps):
            tried = self._candidates(trace.target, current, aim, allowed, rng)
            if not tried:
                return "plateau"  # no single change survives as text
            found = scores(tried)
            # The best of the batch, even if it is worse than the current one.
            current = tried[max(range(len(tried)), key=found.__getitem__)]
            if trace.stalled(self.patience):
                return "plateau"
        return "finished"

    def _candidates(
        self,
        target: Target,
        current: Ids,
        aim: Sequence[Tensor],
        allowed: Sequence[int],
        rng: Random,
    ) -> list[Ids]:
        """Sequences with one token replaced by one of the steepest; their texts give their ids."""
        steepest = self._steepest(target, current, aim, allowed)
        each = -(-self.candidates // len(current))
        tried: dict[Ids, None] = {}
        for place, tokens in enumerate(steepest):
            for token in rng.sample(tokens, min(each, len(tokens))):
                tried[(*current[:place], token, *current[place + 1 :])] = None
        tried.pop(current, None)
        kept = [one for one in tried if survives(target.vocabulary, one)]
        return kept[: self.candidates]

    def _steepest(
        self, target: Target, current: Ids, aim: Sequence[Tensor], allowed: Sequence[int]
    ) -> list[list[int]]:
        """At each position the allowed tokens with the lowest gradient of 1 - cosine."""
        vocabulary = target.vocabulary
        weights = one_hot(vocabulary, current)[None].requires_grad_(True)
        found = pooled(target.encode_soft(weights), [current])
        (1 - likeness(found, aim)).sum().backward()
        assert weights.grad is not None
        gradient = torch.nn.functional.normalize(weights.grad[0], dim=-1)
        column = {one: i for i, one in enumerate(vocabulary.ordinary)}
        columns = [column[one] for one in allowed]
        order = gradient[:, columns].argsort(dim=-1, stable=True)[:, : self.top]
        return [[allowed[i] for i in row] for row in order.tolist()]

    def _start(self, vocabulary: Vocabulary, allowed: Sequence[int], rng: Random) -> Ids:
        """Random letters that survive as text, or any tokens where there are no letters."""
        length = min(self.tokens, vocabulary.length)
        letters = [
            i for i in allowed if len(text := vocabulary.decode([i])) == 1 and text.isalpha()
        ]
        pools = [[i for i in letters if survives(vocabulary, (i, i))], letters, allowed]
        tokens = next(pool for pool in pools if pool)
        return tuple(rng.choices(tokens, k=length))


def survives(vocabulary: Vocabulary, ids: Ids) -> bool:
    """Whether the text of ids gives the same ids."""
    return vocabulary.tokenize(vocabulary.decode(ids)) == ids


def _scorer(trace: Trace, aim: Sequence[Tensor]) -> Scores:
    """Cosines of sequences; the best of a batch is offered. One that does not survive gets -1."""
    vocabulary = trace.target.vocabulary

    def scores(rows: Sequence[Ids]) -> list[float]:
        found = [-1.0] * len(rows)
        kept = [i for i, row in enumerate(rows) if survives(vocabulary, row)]
        if kept:
            ids = [rows[i] for i in kept]
            cosines = likeness(pooled(trace.target.encode(ids), ids), aim).tolist()
            for i, cosine in zip(kept, cosines, strict=True):
                found[i] = cosine
            top = max(kept, key=found.__getitem__)
            trace.offer(candidate(vocabulary, rows[top], found[top]))
            trace.step()
        return found

    return scores
