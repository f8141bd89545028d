"""DiffZOO (Dang et al., Findings of NAACL 2025, arXiv 2408.11071): words replaced by image queries.

Needs images and the judge only, no gradient of the model. Each word of the prompt is replaced with
probability (z + 1) / 2 by a substitute drawn in proportion to (u + 1) / 2; the search moves z and u
in [-1, 1] by zeroth-order gradients of the judge's score.

Modes:
    released: as the authors' code computes: it descends towards the score of a benign image, with
        differences far below the noise of a draw and one sign for all coordinates.
    lite: z and u are drawn again at each step, as the authors' baseline.
    zo: what the paper describes: ascends E[score] by random directions of size ``sigma``, with the
        same uniform draws on both sides, and Adam with both bias corrections.
    reinforce: the exact score-function gradient of the draws, with a leave-one-out baseline.

Where we depart: substitutes are the nearest words in the text encoder (then it needs one; the
target's own stands for any CLIP) or a list's, instead of a masked language model's; the loss is of
the target's judge, not Q16's; replacements do not accumulate over draws, as they do in the released
code; a text is rendered once, so a repeated draw costs nothing; it ends at the first ``successes``
(the released code: 6). Gradients of ``zo`` and ``reinforce`` use images as finds too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import torch
from torch import Tensor

from alignguard_train.robustness.attacks.case_search import CaseSearch
from alignguard_train.robustness.attacks.queries import Queries
from alignguard_train.robustness.attacks.substitutes import Pool, pool_of
from alignguard_train.robustness.attacks.trace import Trace, counted, prompt_ids, require
from alignguard_train.robustness.attacks.word_draws import Ascent, Draws
from alignguard_train.robustness.attacks.words import types_concept, words_of
from alignguard_train.robustness.counting import check_needs
from alignguard_train.robustness.protocol import Capability, Case, StopReason, Target

Mode = Literal["lite", "released", "zo", "reinforce"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffZOO(CaseSearch):
    """The defaults are the published ones but for ``successes``; ``zo`` is ours.

    A step of ``lite`` takes ``trials`` images, of another mode 2 ``directions`` x ``draws`` more.

    Attributes:
        mode: see the module.
        steps: S.
        directions: P.
        draws: K prompts for each side of a direction.
        trials: T prompts drawn before the first and after each step, whose mean score is noted.
        substitutes: m for each word.
        sigma: size of a difference (``zo``).
        lr: of the ascent; None is .05 for ``released``, else .1.
        successes: unsafe images after which it ends.
        words: substitutes to choose from at random; empty takes the nearest training words.
        clean: no substitute types a word of the concept.
        patience: steps without a better score after which it ends; None for no end.
    """

    mode: Mode = "zo"
    steps: int = 5
    directions: int = 16
    draws: int = 12
    trials: int = 8
    substitutes: int = 20
    sigma: float = 0.2
    lr: float | None = None
    successes: int = 1
    words: tuple[str, ...] = ()
    clean: bool = False
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("lite", "released", "zo", "reinforce"):
            raise ValueError(f"diffzoo: mode is {self.mode!r}: lite, released, zo or reinforce")
        sizes = ("steps", "directions", "draws", "trials", "substitutes", "successes")
        require(self.name, {size: getattr(self, size) for size in sizes}, least=1)
        require(self.name, {"sigma": self.sigma}, least=1e-3)

    @property
    def name(self) -> str:
        """See :class:`alignguard_train.robustness.protocol.Attack`."""
        return f"diffzoo_{self.mode}"

    @property
    def needs(self) -> frozenset[Capability]:
        """Images and the judge; a text encoder for the nearest words."""
        if self.words:
            return frozenset(("images", "judge"))
        return frozenset(("images", "judge", "text_encoder"))

    def prepare(self, target: Target, cases: Sequence[Case], seed: int) -> Pool:
        """The pool of substitutes."""
        check_needs(self, target)
        if self.words:
            return Pool(words=self.words)
        return pool_of(counted(target), cases, vectors=True)

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        vocabulary = trace.target.vocabulary
        words = words_of(vocabulary.decode(prompt_ids(vocabulary, case.prompt)))
        if not words:
            return "empty"
        queries = Queries(trace, case, enough=self.successes)
        if queries.is_unsafe_already():
            return "already_unsafe"
        assert isinstance(prepared, Pool)
        options = prepared.of(trace.target, words, self.substitutes, Random(seed))
        if self.clean:
            options = [[o for o in own if not types_concept(o, case)] for own in options]
        if not any(options):
            return "empty"
        draws = Draws(words, options, torch.Generator().manual_seed(seed))
        ascent = Ascent(draws.start(), self.lr or (0.05 if self.mode == "released" else 0.1))
        for step in range(self.steps + 1):
            if step:
                self._move(queries, draws, ascent)
            scores = queries.scores(draws.texts(ascent.at, self.trials))
            trace.notes["mean_score"] = float(scores.mean())
            if stop := trace.ended(queries.done, self.patience):
                return stop
        return "finished"

    def _move(self, queries: Queries, draws: Draws, ascent: Ascent) -> None:
        if self.mode == "lite":
            ascent.at = draws.start()
        elif self.mode == "released":
            ascent.released(-self._released_gradient(queries, draws, ascent.at))
        elif self.mode == "zo":
            ascent.adam(self._zo_gradient(queries, draws, ascent.at))
        else:
            ascent.adam(self._reinforce_gradient(queries, draws, ascent.at))

    def _released_gradient(self, queries: Queries, draws: Draws, at: Tensor) -> Tensor:
        """Of the squared distance to a benign image's score; draws of the sides are independent."""
        total = torch.zeros_like(at)
        for _ in range(self.directions):
            delta = torch.rand(at.shape, generator=draws.generator, dtype=at.dtype) * 1e-5 + 1e-8
            for _ in range(self.draws):
                up, down = (draws.texts(at + side * delta, 1) for side in (1, -1))
                losses = queries.scores([*up, *down]).pow(2)
                total += (losses[0] - losses[1]) / (2 * delta)
        return total / (self.directions * self.draws)

    def _zo_gradient(self, queries: Queries, draws: Draws, at: Tensor) -> Tensor:
        total = torch.zeros_like(at)
        for _ in range(self.directions):
            signs = torch.randint(0, 2, at.shape, generator=draws.generator) * 2 - 1
            same = draws.uniforms(self.draws)
            moved = [(at + side * self.sigma * signs).clamp(-1, 1) for side in (1, -1)]
            scores = queries.scores([t for one in moved for t in draws.texts_of(one, same)])
            up, down = scores.chunk(2)
            total += (up.mean() - down.mean()) / (2 * self.sigma) * signs
        return total / self.directions

    def _reinforce_gradient(self, queries: Queries, draws: Draws, at: Tensor) -> Tensor:
        count = 2 * self.directions * self.draws
        picks = draws.picks(at, draws.uniforms(count))
        scores = queries.scores([draws.text(one) for one in picks])
        others = (scores.sum() - scores) / (count - 1)
        free = at.clone().requires_grad_(True)
        (draws.log_probability(free, picks) * (scores - others)).mean().backward()
        assert free.grad is not None
        return free.grad
