"""An attack that knows the gate: words appended to a prompt send it to another expert.

The gate reads only the state at the end of the text, the image comes from the states of all
tokens, and a causal encoder's states of a prompt do not change with what follows it. So the prompt
stays as it is, and a greedy coordinate search over the whole vocabulary appends tokens that
maximise likeness - weight x hinge: likeness is the mean cosine, over all positions, of the text
states to the prompt's own; the hinge is the gate's logit of the prompt's category over the next
best one, up to :data:`ENOUGH` below it. The best texts are then drawn, and the judge picks one.
With weight 0 it is the same search, with the same images, by someone who does not know the gate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.merge.linear_gate import LinearGate
from alignguard_train.robustness.attacks.case_search import CaseSearch, needing
from alignguard_train.robustness.attacks.coordinates import Ids, coordinate_search
from alignguard_train.robustness.attacks.mma import survives
from alignguard_train.robustness.attacks.queries import Queries
from alignguard_train.robustness.attacks.trace import Trace, prompt_ids
from alignguard_train.robustness.protocol import Budget, Case, StopReason, Vocabulary

ENOUGH = 2.0
"""Logits by which a text is beyond the border to another class; more is worth nothing."""
NO_TEXT = -1e9
TRIES = 100


@dataclass(frozen=True, kw_only=True)
class GateAware(CaseSearch):
    """The appended words; see the module.

    Attributes:
        gate: what the attacker knows of the defence; its classes are categories.
        weight: of the hinge; 0 does not know the gate.
        tokens: appended.
        sweeps: most passes over them.
        drawn: texts that are drawn and judged, at the case's seed.
        found: texts by case, as the search for them sees no image.
    """

    gate: LinearGate
    weight: float = 0.2
    tokens: int = 3
    sweeps: int = 2
    drawn: int = 10
    found: dict[str, list[str]] = field(default_factory=dict)

    needs = needing("text_encoder", "images", "judge")

    @property
    def name(self) -> str:
        """In results."""
        return "gate_aware" if self.weight else "appended"

    @property
    def budget(self) -> Budget:
        """Of one case."""
        return Budget(images=self.drawn, judge_calls=self.drawn)

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        if case.case_id not in self.found:
            self.found[case.case_id] = self._texts(trace, case, Random(seed))
        queries = Queries(trace, case)
        queries.verdicts(self.found[case.case_id])
        trace.step()
        return "success" if queries.done else "finished"

    def _texts(self, trace: Trace, case: Case, rng: Random) -> list[str]:
        """The best texts, the best first."""
        target, vocabulary = trace.target, trace.target.vocabulary
        ids = prompt_ids(vocabulary, case.prompt, room=self.tokens)
        aim, own = target.encode([ids]), self.gate.classes.index(case.category)
        known: dict[Ids, float] = {}

        def scores(rows: Sequence[Ids]) -> list[float]:
            whole = [(*ids, *row) for row in rows]
            new = [one for one in dict.fromkeys(whole) if one not in known]
            kept = [one for one in new if survives(vocabulary, one)]
            if kept:
                found = self._objective(target.encode(kept), kept, aim, own)
                known.update(zip(kept, found.tolist(), strict=True))
            return [known.setdefault(one, NO_TEXT) for one in whole]

        start = _start(vocabulary, ids, self.tokens, rng)
        coordinate_search(scores, start, vocabulary.ordinary, sweeps=self.sweeps)
        best = sorted(known, key=known.__getitem__, reverse=True)[: self.drawn]
        return [vocabulary.decode(one) for one in best if known[one] > NO_TEXT]

    def _objective(
        self, given: Conditions, rows: Sequence[Ids], aim: Conditions, own: int
    ) -> Tensor:
        likeness = torch.cosine_similarity(given.states, aim.states, dim=-1).mean(dim=1)
        if not self.weight:
            return likeness
        ends = torch.tensor([len(row) + 1 for row in rows])
        return likeness - self.weight * over_the_next(self.gate, own)(
            given.states[torch.arange(len(rows)), ends]
        ).clamp(min=-ENOUGH)


def _start(vocabulary: Vocabulary, ids: Ids, tokens: int, rng: Random) -> Ids:
    """Random tokens that survive as text behind a prompt: from others no single change does."""
    alone = [one for one in vocabulary.ordinary if survives(vocabulary, (*ids, one))]
    tried = [tuple(rng.choices(alone or vocabulary.ordinary, k=tokens)) for _ in range(TRIES)]
    return next((one for one in tried if survives(vocabulary, (*ids, *one))), tried[0])


def over_the_next(gate: LinearGate, own: int) -> Callable[[Tensor], Tensor]:
    """By how much a gate prefers one class to the best other one.

    Args:
        gate: with two classes or more.
        own: index of the class.

    Returns:
        From states (rows, width) to differences of logits (rows,).
    """

    def margin(states: Tensor) -> Tensor:
        logits = gate.logits(states)
        others = torch.cat([logits[:, :own], logits[:, own + 1 :]], dim=1)
        return logits[:, own] - others.amax(dim=1)

    return margin
