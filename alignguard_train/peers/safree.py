"""SAFREE's text-space part (Yoon et al., ICLR 2025, arXiv 2410.12761); no training.

Prompt tokens close to the subspace of the concepts' texts are projected out of it, within the
prompt's own space. The distance moved decides for how many steps the moved text is used
(self-validating filtering). The paper's re-attention in latents is not implemented.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from torch.nn.functional import cosine_similarity

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_train.peers.concept import Concept, check, filled
from alignguard_train.peers.pipes import share_done, with_forward, with_unet


def projection(rows: Tensor) -> Tensor:
    """Orthogonal projection onto the span of ``rows`` (n, width): (width, width)."""
    e = rows.double().T
    return (e @ torch.linalg.pinv(e, rtol=1e-5)).to(rows)  # rows come from float32


def trigger_tokens(masked: Tensor, toxic: Tensor, *, alpha: float) -> Tensor:
    """Find the tokens that carry the concepts (the paper's masked-token test).

    A token is one if masking it moves the text further from the concepts' subspace than masking
    another does on average: d_i > (1 + alpha) * mean of d_j over j != i.

    Args:
        masked: text embeddings with the i-th token masked (tokens, width).
        toxic: projection onto the concepts' subspace (width, width).
        alpha: relative margin.

    Returns:
        Whether each token is one (tokens,), bool.
    """
    away = (masked - masked @ toxic).norm(dim=1)
    if len(away) < 2:
        return torch.zeros(len(away), dtype=torch.bool, device=away.device)
    others = (away.sum() - away) / (len(away) - 1)
    return away > (1 + alpha) * others


def moved_out(states: Tensor, prompt: Tensor, toxic: Tensor) -> Tensor:
    """(I - P_C) P_I e for states e (tokens, width): orthogonal to the concepts."""
    inside = states @ prompt
    return inside - inside @ toxic


def filtering_share(states: Tensor, moved: Tensor, *, longest: float, midpoint: float) -> float:
    """Share of the steps that use the moved text.

    ``longest`` times a sigmoid of the distance moved, 1 - mean cosine. The slope of 50 is from the
    published code.
    """
    distance = 1 - cosine_similarity(moved, states, dim=1).mean()
    return float(longest * torch.sigmoid(50 * (distance - midpoint)))


@dataclass(frozen=True, kw_only=True, slots=True)
class SAFREE:
    """Moves the text away from the concepts' subspace, and re-weights it in time; no training.

    Attributes:
        alpha: margin of the token test.
        self_validating: the distance moved decides for how many steps the moved text is used; off:
            for all.
        longest: the most steps with the moved text, as a share (published: 10 of 50).
        midpoint: the distance at which half of ``longest`` is used.
        mask_id: replacement of a masked token.
        template: ``{}`` in it becomes a concept's name.
    """

    alpha: float = 0.01
    self_validating: bool = True
    longest: float = 0.2
    midpoint: float = 0.5333
    mask_id: int = 0
    template: str = "{}"

    def apply(self, pipe: Pipe, concepts: Sequence[Concept]) -> Pipe:
        """See :class:`alignguard_train.peers.concept.Peer`; one text encoder only."""
        check(concepts, self.template)
        if not isinstance(pipe, StableDiffusionPipeline):
            raise EngineError(f"SAFREE here supports one text encoder, not a {type(pipe).__name__}")
        toxic = projection(_pooled(pipe, _ids(pipe, filled(self.template, concepts))))
        changed: Any = copy.copy(with_unet(pipe, with_forward(pipe.unet, _Forward(pipe))))
        changed.encode_prompt = _Encoder(pipe, toxic, self)
        return changed


class _Encoder:
    """The pipe's ``encode_prompt`` with twice the tokens: moved text, then original.

    One more token holds the moved text's share of the steps. The UNet selects one per step.
    """

    def __init__(self, pipe: StableDiffusionPipeline, toxic: Tensor, how: SAFREE) -> None:
        self._pipe, self._toxic, self._how = pipe, toxic, how

    def __call__(
        self, prompt: str | list[str] | None = None, *arguments: Any, **named: Any
    ) -> tuple[Tensor, Tensor | None]:
        if prompt is None:
            raise EngineError("SAFREE needs the prompt's text: give prompt, not prompt_embeds")
        given, without = self._pipe.encode_prompt(prompt, *arguments, **named)
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        each = len(given) // len(texts)
        rows = [self._moved(text, given[i * each]) for i, text in enumerate(texts)]
        moved = torch.stack([row for row, _ in rows]).repeat_interleave(each, 0)
        shares = torch.tensor([share for _, share in rows]).repeat_interleave(each, 0)
        return _packed(moved, given, shares), without if without is None else _packed(
            without, without, torch.zeros(len(without))
        )

    @torch.no_grad()
    def _moved(self, text: str, states: Tensor) -> tuple[Tensor, float]:
        """A text's states (tokens, width) with its trigger tokens moved, and the share of steps."""
        ids, how = _ids(self._pipe, [text])[0], self._how
        real = len(ids) - 2
        if real < 1:
            return states, 0.0
        masked = ids.repeat(real, 1)
        masked[torch.arange(real), torch.arange(real) + 1] = how.mask_id
        embedded = _pooled(self._pipe, masked)
        found = moved_out(states, projection(embedded).to(states), self._toxic.to(states))
        triggers = trigger_tokens(embedded, self._toxic, alpha=how.alpha)
        chosen = torch.zeros(len(states), dtype=torch.bool, device=states.device)
        chosen[1 : real + 1] = triggers.to(chosen.device)
        share = 1.0
        if how.self_validating:
            own = slice(0, len(ids))
            share = filtering_share(
                states[own], found[own], longest=how.longest, midpoint=how.midpoint
            )
        return torch.where(chosen[:, None], found, states), share


def _packed(moved: Tensor, plain: Tensor, shares: Tensor) -> Tensor:
    """(rows, tokens, width) twice and (rows,) as one (rows, 2 tokens + 1, width)."""
    last = shares.to(plain)[:, None, None].expand(-1, 1, plain.shape[2])
    return torch.cat([moved, plain, last], dim=1)


class _Forward:
    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        self._unet: Any = pipe.unet
        self._scheduler = pipe.scheduler

    def __call__(
        self,
        sample: Tensor,
        timestep: Any,
        encoder_hidden_states: Tensor,
        *arguments: Any,
        **named: Any,
    ) -> Any:
        packed = encoder_hidden_states
        tokens = packed.shape[1] // 2
        t = timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep
        early = share_done(self._scheduler, t) < packed[:, -1:, :1]
        states = torch.where(early, packed[:, :tokens], packed[:, tokens : 2 * tokens])
        return self._unet(sample, timestep, states, *arguments, **named)


def _ids(pipe: StableDiffusionPipeline, texts: Sequence[str]) -> Tensor:
    """Token ids of texts, padded to the longest of them: (texts, tokens)."""
    tokenizer: Any = pipe.tokenizer
    found = tokenizer(
        list(texts),
        padding="longest",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    return found.input_ids


@torch.no_grad()
def _pooled(pipe: StableDiffusionPipeline, ids: Tensor) -> Tensor:
    """The text encoder's pooled embeddings of token ids: (texts, width), float32."""
    encoder: Any = pipe.text_encoder
    return encoder(ids.to(encoder.device)).pooler_output.float()
