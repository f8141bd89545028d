"""Prompting4Debugging (Chin et al., ICML 2024, arXiv 2309.06135): the defence predicts as the base.

Needs gradients through the text encoder and the defended UNet, the undefended UNet, images and the
judge. It looks for tokens with which the defended model predicts what the undefended one predicts
for the prompt, at random timesteps of the undefended model's own image with noise. Tokens are
optimised as in PEZ (arXiv 2302.03668): the gradient at the nearest tokens moves soft ones.

Variants: ``n`` has ``tokens`` fresh tokens and nothing else; ``k`` keeps the prompt, with one free
token before every ``every_tokens`` of its tokens.

Where we depart: soft tokens are weights over the vocabulary, as a target gives no embeddings, and
the nearest token is the one with the largest weight; the best prompt is the one whose image the
judge scores highest and the search ends at an unsafe one, where the paper keeps the image nearest
to the base model's by CLIP; padding is the same in search and evaluation; negative guidance is not
in the loss, which the paper finds stronger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from alignguard_train.robustness.attacks.case_search import CaseSearch
from alignguard_train.robustness.attacks.queries import Queries
from alignguard_train.robustness.attacks.trace import Trace, prompt_ids, require
from alignguard_train.robustness.attacks.weighted_tokens import ordinary_ids
from alignguard_train.robustness.attacks.white_box import (
    TRAINING_STEPS,
    Layout,
    filled,
    noisy,
    reference_latents,
    weights_of,
)
from alignguard_train.robustness.protocol import Capability, Case, StopReason


@dataclass(frozen=True, kw_only=True, slots=True)
class P4D(CaseSearch):
    """The defaults are the published ones.

    Attributes:
        variant: ``n`` or ``k``, see the module.
        tokens: fresh tokens of ``n`` (N), at most as many as a prompt holds.
        every_tokens: of the prompt for one free token of ``k`` (K).
        steps: of AdamW.
        every_steps: steps for one image.
        samples: images of the undefended model, of which the most unsafe is the reference.
        lr: of AdamW.
        weight_decay: of AdamW.
        patience: images without a better score after which it ends; None for no end.
    """

    variant: Literal["n", "k"] = "n"
    tokens: int = 16
    every_tokens: int = 3
    steps: int = 3000
    every_steps: int = 50
    samples: int = 4
    lr: float = 0.1
    weight_decay: float = 0.1
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.variant not in ("n", "k"):
            raise ValueError(f"p4d: variant is {self.variant!r}: n or k")
        sizes = ("tokens", "every_tokens", "steps", "every_steps", "samples")
        require(self.name, {size: getattr(self, size) for size in sizes}, least=1)

    @property
    def name(self) -> str:
        """See :class:`alignguard_train.robustness.protocol.Attack`."""
        return f"p4d_{self.variant}"

    @property
    def needs(self) -> frozenset[Capability]:
        """See the module."""
        return frozenset(
            ("text_encoder", "token_gradients", "unet", "base_unet", "images", "judge")
        )

    def layout(self, ids: Sequence[int], length: int) -> Layout:
        """Free places, and for ``k`` the prompt's ids between them, at most ``length``."""
        if self.variant == "n":
            return (None,) * min(self.tokens, length)
        found: list[int | None] = []
        for place, one in enumerate(ids):
            found += [None, one] if place % self.every_tokens == 0 else [one]
        if len(ids) % self.every_tokens == 0:
            found.append(None)  # floor(n / K) + 1 free tokens in all
        return tuple(found[:length])

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        target, vocabulary = trace.target, trace.target.vocabulary
        ids = ordinary_ids(vocabulary, prompt_ids(vocabulary, case.prompt))
        if not ids:
            return "empty"
        queries = Queries(trace, case)
        if queries.is_unsafe_already():
            return "already_unsafe"
        latents = reference_latents(trace, case, samples=self.samples)
        layout, generator = self.layout(ids, vocabulary.length), torch.Generator()
        generator.manual_seed(seed)
        prompt, size = target.encode([ids]), len(vocabulary.ordinary)
        first = torch.randint(size, (layout.count(None), 1), generator=generator)
        soft = torch.zeros(len(first), size).scatter(1, first, 1.0).requires_grad_(True)
        optimizer = torch.optim.AdamW([soft], lr=self.lr, weight_decay=self.weight_decay)
        for step in range(1, self.steps + 1):
            nearest = soft.detach().argmax(dim=1, keepdim=True)
            hard = torch.zeros_like(soft).scatter(1, nearest, 1.0).requires_grad_(True)
            t = int(torch.randint(TRAINING_STEPS, (1,), generator=generator))
            given = noisy(target, latents, [t], generator)
            with torch.no_grad():
                wanted = target.predict(given.latents, given.timesteps, prompt, base=True)
            conditions = target.encode_soft(weights_of(vocabulary, layout, hard))
            found = target.predict(given.latents, given.timesteps, conditions)
            (found.float() - wanted.float()).pow(2).mean().backward()
            soft.grad = hard.grad
            optimizer.step()
            if step % self.every_steps and step < self.steps:
                continue
            tokens = [vocabulary.ordinary[i] for i in soft.argmax(dim=1).tolist()]
            queries.verdicts([vocabulary.decode(filled(layout, tokens))])
            if stop := trace.ended(queries.done, self.patience):
                return stop
        return "finished"
