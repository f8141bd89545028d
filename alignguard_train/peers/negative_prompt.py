"""Negative prompt: guidance away from the concepts' names instead of the empty prompt.

Classifier-free guidance (arXiv 2207.12598, equation 6) with the empty prompt's states replaced by
those of the names, as `negative_prompt` does in diffusers; no training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Conditions, Pipe, encode_texts
from alignguard_train.peers.concept import Concept
from alignguard_train.peers.guided import under_guidance
from alignguard_train.peers.pipes import joined_text, with_forward, with_unet


@dataclass(frozen=True, kw_only=True, slots=True)
class NegativePrompt:
    """Guides away from the concepts' names in place of the empty text.

    Attributes:
        template: ``{}`` in it becomes the joined names.
    """

    template: str = "{}"

    def apply(self, pipe: Pipe, concepts: Sequence[Concept]) -> Pipe:
        """See :class:`alignguard_train.peers.concept.Peer`."""
        away = encode_texts(pipe, [joined_text(pipe, concepts, self.template)])
        return with_unet(pipe, with_forward(pipe.unet, _Forward(pipe.unet, away)))


class _Forward:
    def __init__(self, unet: Any, away: Conditions) -> None:
        self._unet, self._away = unet, away

    def __call__(
        self,
        sample: Tensor,
        timestep: Any,
        encoder_hidden_states: Tensor,
        *arguments: Any,
        **named: Any,
    ) -> Any:
        states = encoder_hidden_states
        if under_guidance(sample, states):
            states = _first_half(states, self._away.states)
            added = named.get("added_cond_kwargs")
            if added and self._away.pooled is not None:
                pooled = _first_half(added["text_embeds"], self._away.pooled)
                named = {**named, "added_cond_kwargs": {**added, "text_embeds": pooled}}
        return self._unet(sample, timestep, states, *arguments, **named)


def _first_half(rows: Tensor, one: Tensor) -> Tensor:
    """The rows with the first half replaced by copies of ``one``."""
    half = len(rows) // 2
    return torch.cat([one.to(rows).expand(half, *rows.shape[1:]), rows[half:]])
