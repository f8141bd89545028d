"""Concept inversion (Pham et al., ICLR 2024, arXiv 2308.01508): the removed concept as a new token.

Needs gradients through the text encoder and the defended UNet, images, the judge, and images of the
undefended model. It is the ceiling of attacks on words, not an attack by prompt: one token's
embedding is learned with which the defended model denoises the undefended model's images of the
concept (textual inversion, arXiv 2208.01618), and its conditions are rendered. No text gives them,
so a success says that the weights still hold the concept, not that a user can reach it.

Where we depart: the embedding is a weighted sum of the vocabulary's, as a target gives no table of
embeddings; it starts at the concept's own words; images are those of the training prompts of
the concept (of the case itself, if the concept has none), where the paper writes a template; the
token takes the place of the concept's words in the prompt, or comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from alignguard_train.robustness.attacks.case_search import CaseSearch, needing
from alignguard_train.robustness.attacks.queries import Queries
from alignguard_train.robustness.attacks.trace import Trace, prompt_ids, require
from alignguard_train.robustness.attacks.weighted_tokens import one_hot, ordinary_ids
from alignguard_train.robustness.attacks.white_box import (
    TRAINING_STEPS,
    Layout,
    noisy,
    prediction_error,
    weights_of,
)
from alignguard_train.robustness.attacks.words import concept_words
from alignguard_train.robustness.counting import check_needs
from alignguard_train.robustness.protocol import (
    BudgetSpent,
    Candidate,
    Case,
    StopReason,
    Target,
    Vocabulary,
)

Learned = Mapping[str, Tensor]
"""Weights of a concept's token by taxonomy key: (1, V)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConceptInversion(CaseSearch):
    """The number of steps is textual inversion's.

    Attributes:
        steps: of Adam.
        images: of the concept by the undefended model, at most.
        batch: rows of a step.
        lr: of Adam, on weights over the vocabulary.
    """

    steps: int = 1000
    images: int = 8
    batch: int = 4
    lr: float = 0.02

    name = "concept_inversion"
    needs = needing("token_gradients", "unet", "base_unet", "images", "judge")

    def __post_init__(self) -> None:
        sizes = ("steps", "images", "batch")
        require(self.name, {size: getattr(self, size) for size in sizes}, least=1)

    def prepare(self, target: Target, cases: Sequence[Case], seed: int) -> Learned:
        """A token for each concept of the cases, as many as the budget allows."""
        check_needs(self, target)
        learned: dict[str, Tensor] = {}
        for concept in dict.fromkeys(case.concept for case in cases):
            own = [case for case in cases if case.concept == concept]
            weights = _start(target.vocabulary, own[0])
            try:
                self._learn(target, own, weights, seed)
            except BudgetSpent:
                break
            learned[concept] = weights.detach()
        return learned

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        vocabulary = trace.target.vocabulary
        if not _ids(vocabulary, case):
            return "empty"
        if Queries(trace, case).is_unsafe_already():
            return "already_unsafe"
        reason: StopReason = "finished"
        weights = prepared.get(case.concept) if isinstance(prepared, Mapping) else None
        trace.notes["of_other_prompts"] = float(weights is not None)
        if weights is None:
            weights = _start(vocabulary, case)
            try:
                self._learn(trace.target, [case], weights, seed)
            except BudgetSpent:
                reason = "budget"
        with torch.no_grad():
            rows = weights_of(vocabulary, layout_of(vocabulary, case), weights.detach())
            conditions = trace.target.encode_soft(rows)
        images = trace.target.render_conditions(conditions, [case.seed])
        verdict = trace.judged(images, case)[0]
        trace.offer(Candidate(text=case.prompt, score=verdict.score, conditions=conditions))
        trace.step()
        return "success" if verdict.unsafe else reason

    def _learn(self, target: Target, cases: Sequence[Case], weights: Tensor, seed: int) -> None:
        """Move the weights towards denoising the undefended model's images of the prompts."""
        usable = [case for case in cases if _ids(target.vocabulary, case)]
        several = self.images if len(usable) == 1 else 1
        drawn = [(case, case.seed + i) for case in usable for i in range(several)][: self.images]
        prompts, seeds = [case.prompt for case, _ in drawn], [seed for _, seed in drawn]
        latents = target.latents(target.render(prompts, seeds, base=True)).detach()
        rng, generator = Random(seed), torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam([weights], lr=self.lr)
        for _ in range(self.steps):
            # Rows of one prompt: prompts of other lengths do not fit in one batch.
            place = rng.randrange(len(drawn))
            layout = layout_of(target.vocabulary, drawn[place][0])
            steps = [rng.randrange(TRAINING_STEPS) for _ in range(self.batch)]
            given = noisy(target, latents[place : place + 1], steps, generator)
            found = target.encode_soft(weights_of(target.vocabulary, layout, weights))
            optimizer.zero_grad()
            prediction_error(target, given, found.repeat(self.batch)).mean().backward()
            optimizer.step()


def layout_of(vocabulary: Vocabulary, case: Case) -> Layout:
    """The prompt with one free place for the concept's words, or a free place before it."""
    words = sorted(concept_words(case), key=len, reverse=True)
    ids, first = _ids(vocabulary, case), None
    for own in (vocabulary.tokenize(word) for word in words):
        starts = [i for i in range(len(ids)) if own and ids[i : i + len(own)] == own]
        for start in reversed(starts):
            ids, first = (*ids[:start], *ids[start + len(own) :]), start
    at = min(first or 0, len(ids))
    return (*ids[:at], None, *ids[at:])


def _ids(vocabulary: Vocabulary, case: Case) -> tuple[int, ...]:
    return ordinary_ids(vocabulary, prompt_ids(vocabulary, case.prompt, room=1))


def _start(vocabulary: Vocabulary, case: Case) -> Tensor:
    """The mean of the concept's own tokens, or of all tokens: (1, V)."""
    own = [i for word in sorted(concept_words(case)) for i in vocabulary.tokenize(word)]
    known = ordinary_ids(vocabulary, own) or vocabulary.ordinary
    return one_hot(vocabulary, known).mean(0, keepdim=True).requires_grad_(True)
