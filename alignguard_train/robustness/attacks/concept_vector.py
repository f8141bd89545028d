"""Concept vectors: mean differences of the text states of unsafe prompts and safe twins."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.robustness.attacks.trace import prompt_ids
from alignguard_train.robustness.protocol import BudgetSpent, Case, Target

PAIRS_PER_CALL = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """A mean of single-row conditions over ``pairs`` twins."""

    vector: Conditions
    pairs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ConceptVectors:
    """Means by concept, by category and of all twins; a key without twins is missing.

    Attributes:
        means: by taxonomy key, by category, and under "" of all.
    """

    means: Mapping[str, Mean] = field(default_factory=dict)

    def of(self, case: Case) -> tuple[Conditions | None, str, int]:
        """The nearest vector to the case, its level (concept, category, all) and its pairs."""
        keys = {"concept": case.concept, "category": case.category, "all": ""}
        for level, key in keys.items():
            if found := self.means.get(key):
                return found.vector, level, found.pairs
        return None, "none", 0


def concept_vectors(target: Target, cases: Sequence[Case]) -> ConceptVectors:
    """Vectors of the cases that have a safe twin; as many of them as the budget allows."""
    usable = [
        case
        for case in cases
        if prompt_ids(target.vocabulary, case.prompt)
        and prompt_ids(target.vocabulary, case.safe_prompt)
    ]
    means: dict[str, Mean] = {}
    for first in range(0, len(usable), PAIRS_PER_CALL):
        batch = usable[first : first + PAIRS_PER_CALL]
        try:
            found = _differences(target, batch)
        except BudgetSpent:
            break
        for i, case in enumerate(batch):
            _add(means, dict.fromkeys((case.concept, case.category, "")), found[i : i + 1])
    return ConceptVectors(means=means)


def _differences(target: Target, cases: Sequence[Case]) -> Conditions:
    texts = [*(case.prompt for case in cases), *(case.safe_prompt for case in cases)]
    found = target.encode([prompt_ids(target.vocabulary, text) for text in texts])
    unsafe, safe = found[: len(cases)], found[len(cases) :]
    pooled = None
    if unsafe.pooled is not None and safe.pooled is not None:
        pooled = (unsafe.pooled - safe.pooled).float()
    return Conditions(states=(unsafe.states - safe.states).float(), pooled=pooled)


def _add(means: dict[str, Mean], keys: Iterable[str], one: Conditions) -> None:
    for key in keys:
        known = means.get(key)
        if known is None:
            means[key] = Mean(vector=one, pairs=1)
            continue
        count = known.pairs + 1
        states = known.vector.states + (one.states - known.vector.states) / count
        pooled = known.vector.pooled
        if pooled is not None and one.pooled is not None:
            pooled = pooled + (one.pooled - pooled) / count
        means[key] = Mean(vector=Conditions(states=states, pooled=pooled), pairs=count)
