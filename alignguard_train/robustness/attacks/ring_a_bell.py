"""Ring-A-Bell (Tsai et al., ICLR 2024, arXiv 2310.10012): a prompt near prompt + concept vector.

Needs the text encoder only: no image, no query of the defended model. A concept vector is the mean
difference of the text states of unsafe prompts and their safe twins, at every position, padding
too (the result notes the padding's share of the distance). A genetic search looks for tokens whose
text states are nearest to the prompt's plus ``eta`` concept vectors.

Where we depart: the concept vector comes from the training split's twins instead of written pairs;
a concept without any (a held-out one) takes its category's, else the mean of all; SDXL adds the
squared error of its pooled states. ``RingABell()`` has the published values and, as published, may
lose its best prompt by mutation; ``elitism`` keeps it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.robustness.attacks.case_search import CaseSearch, needing
from alignguard_train.robustness.attacks.concept_vector import ConceptVectors, concept_vectors
from alignguard_train.robustness.attacks.trace import (
    Trace,
    candidate,
    counted,
    prompt_ids,
    require,
)
from alignguard_train.robustness.counting import check_needs
from alignguard_train.robustness.protocol import (
    BudgetSpent,
    Candidate,
    Case,
    Found,
    StopReason,
    Target,
)

Ids = tuple[int, ...]


def squared_distance(aim: Conditions, rows: Conditions) -> Tensor:
    """Sum of squared differences of each row to the single row ``aim``: (rows,), float32."""
    distance = (rows.states.float() - aim.states.float()).pow(2).sum(dim=(1, 2))
    if rows.pooled is not None and aim.pooled is not None:
        distance = distance + (rows.pooled.float() - aim.pooled.float()).pow(2).sum(dim=1)
    return distance


def aim_of(trace: Trace, case: Case, prepared: object, eta: float) -> tuple[Conditions, Ids] | None:
    """Conditions of the prompt + eta x concept vector, and the prompt's ids.

    None if the prompt has no token or there is no twin to learn from.
    """
    ids = prompt_ids(trace.target.vocabulary, case.prompt)
    if not ids:
        return None
    start = trace.target.encode([ids])
    if eta == 0:
        return start, ids
    assert isinstance(prepared, ConceptVectors)
    vector, level, pairs = prepared.of(case)
    if vector is None:
        return None
    trace.notes |= {"pairs": float(pairs), "of_the_concept": float(level == "concept")}
    pooled = start.pooled
    if pooled is not None and vector.pooled is not None:
        pooled = pooled + eta * vector.pooled
    return Conditions(states=start.states + eta * vector.states, pooled=pooled), ids


@dataclass(frozen=True, kw_only=True, slots=True)
class RingABell(CaseSearch):
    """The genetic search of a prompt; the defaults are the published ones for nudity.

    Attributes:
        population: sequences of the first generation (N); half of them become parents.
        generations: G.
        tokens: free tokens of a sequence (K), at most as many as a prompt holds.
        eta: strength of the concept vector.
        mutation: chance that one token of a sequence changes.
        crossover: chance that a parent has two children with another one.
        elitism: the best sequence is never mutated, so that the best one is returned; otherwise,
            as published, the best of the last generation is.
        patience: generations without a better score after which it ends; None for no end.
    """

    population: int = 200
    generations: int = 3000
    tokens: int = 16
    eta: float = 3.0
    mutation: float = 0.25
    crossover: float = 0.5
    elitism: bool = False
    patience: int | None = None

    name = "ring_a_bell"
    needs = needing("text_encoder")
    text_only = True

    def __post_init__(self) -> None:
        require(self.name, {"population": self.population}, least=2)
        require(self.name, {"generations": self.generations, "tokens": self.tokens}, least=1)
        require(self.name, {"eta": self.eta}, least=0)

    def prepare(self, target: Target, cases: Sequence[Case], seed: int) -> ConceptVectors:
        """The concept vectors of the cases."""
        check_needs(self, target)
        return concept_vectors(counted(target), cases)

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason | Found:
        found = aim_of(trace, case, prepared, self.eta)
        if found is None:
            return "empty"
        aim, rng = found[0], Random(seed)
        reason: StopReason = "finished"
        population, last = self._first(trace.target, rng), None
        for generation in range(self.generations):
            try:
                ranked = _ranked(trace, population, aim)
            except BudgetSpent:
                reason = "budget"
                break
            last = candidate(trace.target.vocabulary, ranked[0][1], -ranked[0][0])
            trace.offer(last)
            trace.step()
            if trace.stalled(self.patience):
                reason = "plateau"
                break
            if generation + 1 < self.generations:
                parents = [ids for _, ids in ranked[: self.population // 2]]
                population = self._children(trace.target, parents, rng)
        return self._result(trace, aim, last, reason)

    def _result(
        self, trace: Trace, aim: Conditions, last: Candidate | None, reason: StopReason
    ) -> Found:
        if trace.best is not None and last is not None:
            trace.notes |= {"best_ever": trace.best.score, "last_generation": last.score}
        return trace.found(reason, only=None if self.elitism else last)

    def _first(self, target: Target, rng: Random) -> list[Ids]:
        ordinary = target.vocabulary.ordinary
        length = min(self.tokens, target.vocabulary.length)
        return [tuple(rng.choices(ordinary, k=length)) for _ in range(self.population)]

    def _children(self, target: Target, parents: list[Ids], rng: Random) -> list[Ids]:
        """The parents and their children, each perhaps with one token changed."""
        family: list[Ids] = []
        for one in parents:
            family.append(one)
            if rng.random() < self.crossover:
                mate, cut = rng.choice(parents), rng.randrange(len(one))
                family += [one[:cut] + mate[cut:], mate[:cut] + one[cut:]]
        mutated = [self._mutated(ids, target.vocabulary.ordinary, rng) for ids in family]
        return [parents[0], *mutated[1:]] if self.elitism else mutated

    def _mutated(self, ids: Ids, ordinary: Sequence[int], rng: Random) -> Ids:
        if rng.random() >= self.mutation:
            return ids
        place = rng.randrange(len(ids))
        return (*ids[:place], rng.choice(ordinary), *ids[place + 1 :])


def _ranked(trace: Trace, rows: list[Ids], aim: Conditions) -> list[tuple[float, Ids]]:
    """Distances and sequences, the nearest first; notes the padding's share of the nearest."""
    encoded = trace.target.encode(rows)
    distances = squared_distance(aim, encoded).tolist()
    order = sorted(range(len(rows)), key=distances.__getitem__)
    best = encoded.states[order[0]] - aim.states[0]
    padding = best[len(rows[order[0]]) + 2 :].pow(2).sum()
    trace.notes["padding_share"] = float(padding / best.pow(2).sum().clamp(min=1e-12))
    return [(distances[i], rows[i]) for i in order]


@dataclass(frozen=True, kw_only=True, slots=True)
class RingABellSoft(CaseSearch):
    """Text states moved by ``eta`` concept vectors: an upper bound, as no prompt gives them.

    RECE (arXiv 2407.12383) measures this form under the name of Ring-A-Bell.

    Attributes:
        eta: strength of the concept vector.
    """

    eta: float = 3.0

    name = "ring_a_bell_soft"
    needs = needing("text_encoder")
    text_only = True

    def __post_init__(self) -> None:
        require(self.name, {"eta": self.eta}, least=0)

    def prepare(self, target: Target, cases: Sequence[Case], seed: int) -> ConceptVectors:
        """The concept vectors of the cases."""
        check_needs(self, target)
        return concept_vectors(counted(target), cases)

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        found = aim_of(trace, case, prepared, self.eta)
        if found is None:
            return "empty"
        # Its distance to the aim of the search for a prompt is 0.
        trace.offer(Candidate(text=case.prompt, score=0.0, conditions=found[0]))
        trace.step()
        return "finished"
