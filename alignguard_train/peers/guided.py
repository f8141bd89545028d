"""A UNet whose prompt branch is corrected in every step by its predictions for concepts.

Classifier-free guidance passes the UNet two halves of rows: without and with the prompt. Returning
c - g for c changes the guided prediction u + s (c - u) by -s g, so a method works in any denoising
loop.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import (
    Conditions,
    Pipe,
    concatenated,
    encode_texts,
)
from alignguard_train.peers.pipes import epsilon_scale, share_done, with_forward, with_unet


@dataclass(frozen=True, kw_only=True, slots=True)
class Branches:
    """One step's predictions for ``rows`` images, up to a common offset in epsilon.

    ``without`` and ``given``: (rows, channels, h, w), empty prompt and prompt; ``concepts``:
    (texts, rows, channels, h, w); ``done``: share of the denoising completed.
    """

    without: Tensor
    given: Tensor
    concepts: Tensor
    done: float


Correction = Callable[[Branches], Tensor]
"""Correction to subtract from the prompt's epsilon: (rows, channels, h, w). An instance serves one
batch from first to last step, so it may keep state."""


def guided(pipe: Pipe, texts: Sequence[str], begin: Callable[[], Correction]) -> Pipe:
    """The pipe with its prompt branch corrected by predictions for ``texts``.

    ``begin`` creates one batch's correction. Does nothing without classifier-free guidance.
    """
    epsilon_scale(pipe.scheduler, 0)  # refuses unsupported predictions now, not while rendering
    forward = _Forward(pipe, encode_texts(pipe, texts), begin)
    return with_unet(pipe, with_forward(pipe.unet, forward))


def under_guidance(latents: Tensor, states: Tensor) -> bool:
    """Whether the rows are two halves of the same latents, the first with one common text.

    Rows without guidance match only if both halves have equal noise and the first half's prompts
    are equal.
    """
    half, rest = divmod(len(latents), 2)
    return (
        rest == 0
        and torch.equal(latents[:half], latents[half:])
        and bool((states[:half] == states[:1]).all())
    )


class _Forward:
    def __init__(self, pipe: Pipe, texts: Conditions, begin: Callable[[], Correction]) -> None:
        self._unet: Any = pipe.unet
        self._scheduler = pipe.scheduler
        self._texts, self._begin = texts, begin
        self._running = threading.local()  # batches render side by side on one UNet

    def __call__(
        self,
        sample: Tensor,
        timestep: Any,
        encoder_hidden_states: Tensor,
        *arguments: Any,
        return_dict: bool = True,
        **named: Any,
    ) -> Any:
        predicted = self._unet(
            sample, timestep, encoder_hidden_states, *arguments, return_dict=False, **named
        )[0]
        if under_guidance(sample, encoder_hidden_states):
            latents = sample.chunk(2)[1]
            concepts = self._of_concepts(latents, timestep, named.get("added_cond_kwargs"))
            correction = self._correction(encoder_hidden_states, timestep)
            k = epsilon_scale(self._scheduler, _one(timestep))
            without, given = predicted.chunk(2)
            taken = correction(
                Branches(
                    without=without * k,
                    given=given * k,
                    concepts=concepts * k,
                    done=share_done(self._scheduler, _one(timestep)),
                )
            )
            predicted = torch.cat([without, given - taken / k])
        return UNet2DConditionOutput(sample=predicted) if return_dict else (predicted,)

    def _of_concepts(self, latents: Tensor, timestep: Any, added: dict[str, Any] | None) -> Tensor:
        """Predictions for the concepts' texts: (texts, rows, channels, h, w)."""
        rows, texts = len(latents), len(self._texts)
        spread = concatenated([self._texts[i : i + 1].repeat(rows) for i in range(texts)])
        spread = spread.to(latents.device, latents.dtype)
        more: dict[str, Any] = {}
        if added and spread.pooled is not None:
            more["added_cond_kwargs"] = {
                "text_embeds": spread.pooled,
                "time_ids": added["time_ids"][rows:].repeat(texts, 1),
            }
        many = latents.repeat(texts, 1, 1, 1)
        found = self._unet(many, _one(timestep), spread.states, return_dict=False, **more)[0]
        return found.unflatten(0, (texts, rows))

    def _correction(self, states: Tensor, timestep: Any) -> Correction:
        """This batch's correction.

        A new batch has new text states, or the same states at an earlier time.
        """
        kept, t = self._running, float(_one(timestep))
        if getattr(kept, "states", None) is not states or t > kept.t:
            kept.states, kept.correction = states, self._begin()
        kept.t = t
        return kept.correction


def _one(timestep: Any) -> Any:
    """The timestep that all rows share."""
    return timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep
