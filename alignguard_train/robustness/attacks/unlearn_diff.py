"""UnlearnDiffAtk (Zhang et al., ECCV 2024, arXiv 2310.11868): the denoiser as its own classifier.

Needs gradients through the text encoder and the defended UNet, images, the judge, and one image of
the undefended model. It puts ``tokens`` free tokens before the prompt and minimises the defended
model's error of prediction on that image with noise: a prompt with which the model denoises the
concept is one that draws it. Each token is a point on the simplex of the vocabulary; forward it is
drawn as one token, backward the clamped gradient passes straight through.

Where we depart: the reference is the prompt's image by the undefended model, not one of a concept's
collection; the projection on the simplex is exact, not by bisection; noise has a seed; the text is
what is rendered and judged, so an image never has ids that its text does not give; a text is
rendered once. ``exact`` replaces the gradient by an exhaustive search of the same error at
``timesteps`` fixed points, the baseline, which needs no gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.robustness.attacks.case_search import CaseSearch
from alignguard_train.robustness.attacks.coordinates import Ids, coordinate_search
from alignguard_train.robustness.attacks.queries import Queries
from alignguard_train.robustness.attacks.trace import Trace, prompt_ids, require
from alignguard_train.robustness.attacks.weighted_tokens import on_simplex, ordinary_ids
from alignguard_train.robustness.attacks.white_box import (
    TRAINING_STEPS,
    Layout,
    Noisy,
    filled,
    noisy,
    prediction_error,
    reference_latents,
    weights_of,
)
from alignguard_train.robustness.protocol import (
    BudgetSpent,
    Capability,
    Case,
    StopReason,
    Target,
)

ROWS_PER_CALL = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class UnlearnDiffAtk(CaseSearch):
    """The defaults are the published ones for nudity and violence (3 tokens for objects, styles).

    Attributes:
        tokens: k free tokens before the prompt.
        timesteps: evenly spaced, in order of rising noise; one image after each.
        iterations: gradient steps at each timestep.
        lr: of Adam.
        weight_decay: of Adam.
        exact: the exhaustive search instead.
        sweeps: of the exhaustive search.
        patience: images without a better score after which it ends; None for no end.
    """

    tokens: int = 5
    timesteps: int = 50
    iterations: int = 40
    lr: float = 0.01
    weight_decay: float = 0.1
    exact: bool = False
    sweeps: int = 3
    patience: int | None = None

    def __post_init__(self) -> None:
        sizes = ("tokens", "timesteps", "iterations", "sweeps")
        require(self.name, {size: getattr(self, size) for size in sizes}, least=1)

    @property
    def name(self) -> str:
        """See :class:`alignguard_train.robustness.protocol.Attack`."""
        return "unlearn_diff_exact" if self.exact else "unlearn_diff"

    @property
    def needs(self) -> frozenset[Capability]:
        """See the module."""
        if self.exact:
            return frozenset(("text_encoder", "unet", "base_unet", "images", "judge"))
        return frozenset(("token_gradients", "unet", "base_unet", "images", "judge"))

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        vocabulary = trace.target.vocabulary
        count = min(self.tokens, vocabulary.length - 1)
        ids = ordinary_ids(vocabulary, prompt_ids(vocabulary, case.prompt, room=count))
        if not ids:
            return "empty"
        queries = Queries(trace, case)
        if queries.is_unsafe_already():
            return "already_unsafe"
        layout: Layout = (*[None] * count, *ids)
        latents = reference_latents(trace, case)
        generator = torch.Generator().manual_seed(seed)
        width = TRAINING_STEPS / self.timesteps
        steps = [int(width * (i + 0.5)) for i in range(self.timesteps)]
        if self.exact:
            points = noisy(trace.target, latents, steps, generator)
            return self._exhaust(trace, queries, layout, points, Random(seed))
        return self._descend(trace, queries, layout, latents, steps, generator)

    def _descend(
        self,
        trace: Trace,
        queries: Queries,
        layout: Layout,
        latents: torch.Tensor,
        steps: list[int],
        generator: torch.Generator,
    ) -> StopReason:
        target, vocabulary = trace.target, trace.target.vocabulary
        size = len(vocabulary.ordinary)
        free = torch.full((layout.count(None), size), 1 / size, requires_grad=True)
        optimizer = torch.optim.Adam([free], lr=self.lr, weight_decay=self.weight_decay)
        for step in steps:
            for _ in range(self.iterations):
                drawn = torch.multinomial(free.detach(), 1, generator=generator)
                hard = torch.zeros_like(free).scatter(1, drawn, 1.0).requires_grad_(True)
                given = noisy(target, latents, [step], generator)
                conditions = target.encode_soft(weights_of(vocabulary, layout, hard))
                prediction_error(target, given, conditions).sum().backward()
                assert hard.grad is not None
                free.grad = hard.grad.clamp(-1, 1)
                optimizer.step()
                with torch.no_grad():
                    free.copy_(on_simplex(free))
            tokens = [vocabulary.ordinary[i] for i in free.argmax(dim=1).tolist()]
            queries.verdicts([vocabulary.decode(filled(layout, tokens))])
            if stop := trace.ended(queries.done, self.patience):
                return stop
        return "finished"

    def _exhaust(
        self, trace: Trace, queries: Queries, layout: Layout, points: Noisy, rng: Random
    ) -> StopReason:
        vocabulary = trace.target.vocabulary
        start = tuple(rng.choices(vocabulary.ordinary, k=layout.count(None)))
        best: tuple[float, Ids] | None = None

        def scores(rows: Sequence[Ids]) -> list[float]:
            nonlocal best
            found = errors(trace.target, layout, rows, points)
            top = min(range(len(rows)), key=found.__getitem__)
            if best is None or found[top] < best[0]:
                best = found[top], rows[top]
            return [-one for one in found]

        reason: StopReason = "finished"
        try:
            coordinate_search(scores, start, vocabulary.ordinary, sweeps=self.sweeps)
        except BudgetSpent:
            reason = "budget"
        if best is not None:
            trace.notes["error"] = best[0]
            queries.verdicts([vocabulary.decode(filled(layout, best[1]))])
            trace.step()
        return "success" if queries.done else reason


@torch.no_grad()
def errors(target: Target, layout: Layout, rows: Sequence[Ids], points: Noisy) -> list[float]:
    """Mean error of prediction over the points with each row's tokens in the free places."""
    count, found = len(points.timesteps), []
    each = max(1, ROWS_PER_CALL // count)
    for first in range(0, len(rows), each):
        conditions = target.encode([filled(layout, row) for row in rows[first : first + each]])
        size = len(conditions)
        repeated = Noisy(
            latents=points.latents.repeat(size, 1, 1, 1),
            wanted=points.wanted.repeat(size, 1, 1, 1),
            timesteps=points.timesteps.repeat(size),
        )
        error = prediction_error(target, repeated, _each(conditions, count))
        found += error.reshape(size, count).mean(1).tolist()
    return found


def _each(conditions: Conditions, count: int) -> Conditions:
    """Each row ``count`` times, one after the other."""
    pooled = conditions.pooled
    return Conditions(
        states=conditions.states.repeat_interleave(count, dim=0),
        pooled=None if pooled is None else pooled.repeat_interleave(count, dim=0),
    )
