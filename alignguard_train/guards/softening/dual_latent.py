"""Dual-latent, our reconstruction of arXiv 2411.13982: a prompt's stream mixed with a safe one's.

The publication's abstract names a weighted sum, in latent space, of a stream of the unsafe prompt
and one of a safe prompt; equations and values are not public. Here epsilon of the prompt p and of
its safe counterpart s are mixed in every step, with guidance g, from the same noise:

    e = e_0 + g ((1 - w) e_p + w e_s - e_0)

w is 0 for a prompt that is not flagged. With w = 0 the image is that of p, with w = 1 that of s.
"""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_train.guards.files import GuardHeader
from alignguard_train.guards.protocol import SILENT, Decision, Rewriter
from alignguard_train.guards.softening.config import DualLatentSettings
from alignguard_train.guards.softening.guards import Softening
from alignguard_train.guards.softening.two_streams import TwoStreams
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.text_guard import TextGuard
from alignguard_train.peers.pipes import share_done, with_forward, with_unet

REFUSED = (
    "dual-latent mixes the noise predictions of a UNet, and a {kind} has none: a transformer "
    "predicts the velocity of a flow, for which it is not made"
)


class DualLatent(Softening):
    """Draws a flagged prompt mixed with its safe counterpart.

    Args:
        header: its file's.
        encoder: the encoder that the header names.
        gate: the guard whose score gives the weight.
        settings: mix and weight.
        rewriter: writes the safe counterparts.
    """

    def __init__(
        self,
        header: GuardHeader,
        encoder: FrozenEncoder,
        gate: TextGuard,
        settings: DualLatentSettings,
        rewriter: Rewriter,
    ) -> None:
        super().__init__(header, encoder, gate)
        self._gate, self.settings, self._rewriter = gate, settings, rewriter

    def changed(
        self, settings: DualLatentSettings | None = None, rewriter: Rewriter | None = None
    ) -> "DualLatent":
        """The same guard with other settings, or with a rewriter instead of the file's pairs.

        Args:
            settings: None: these.
            rewriter: None: this one.

        Returns:
            A guard of the same file and threshold.
        """
        return DualLatent(
            self.header,
            self.encoder,
            self._gate,
            settings or self.settings,
            rewriter or self._rewriter,
        )

    def decide(self, prompts: Sequence[str]) -> list[Decision]:
        """A flagged prompt without a safe counterpart is blocked."""
        decided = super().decide(prompts)
        rows = [i for i, one in enumerate(decided) if one.action == "soften"]
        answers = self._rewriter.rewrite([prompts[i] for i in rows])
        for i, answer in zip(rows, answers, strict=True):
            if not answer.strip():
                decided[i] = dataclasses.replace(decided[i], action="block", reason=SILENT)
        return decided

    def weights(self, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Weight of the safe stream (prompts,): 0 where the prompt is not flagged."""
        how, above = self.settings, self.score(prompts) - self.threshold
        given = np.clip((above - how.begin) / (how.full - how.begin), 0, 1)
        given = given if how.weight is None else np.full(len(prompts), how.weight)
        return np.where(above >= 0, given, 0.0)

    def counterparts(self, prompts: Sequence[str]) -> tuple[list[str], Tensor]:
        """Safe counterparts (the prompt itself where it is not mixed), and weights (prompts,)."""
        weights = self.weights(prompts)
        rows = np.flatnonzero(weights > 0)
        texts = list(prompts)
        for i, answer in zip(rows, self._rewriter.rewrite([texts[i] for i in rows]), strict=True):
            texts[i] = answer
        return texts, torch.from_numpy(weights).float()

    def soften(self, pipe: Pipe) -> Pipe:
        """See :class:`alignguard_train.guards.protocol.Guard`; of pipes with a UNet."""
        if getattr(pipe, "unet", None) is None:
            raise EngineError(REFUSED.format(kind=type(pipe).__name__))
        if self.settings.mix == "latent":
            mixed: Any = TwoStreams(pipe, self.counterparts, self.settings.context)
            return mixed
        forward = _Forward(pipe, self.settings.context)
        changed: Any = copy.copy(with_unet(pipe, with_forward(pipe.unet, forward)))
        changed.encode_prompt = _Encoder(pipe, self)
        return changed


class _Encoder:
    """The pipe's ``encode_prompt`` with both texts' states, and a token that holds the weight."""

    def __init__(self, pipe: Any, guard: DualLatent) -> None:
        self._pipe, self._guard = pipe, guard

    def __call__(
        self, prompt: str | list[str] | None = None, *arguments: Any, **named: Any
    ) -> tuple[Tensor | None, ...]:
        if prompt is None:
            raise EngineError("dual-latent needs the prompt's text: give prompt, not prompt_embeds")
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        safe, weights = self._guard.counterparts(texts)
        given = self._pipe.encode_prompt(texts, *arguments, **named)
        if named.get("prompt_2") is not None:  # SDXL's second encoder reads the safe text too
            named = {**named, "prompt_2": safe}
        other = self._pipe.encode_prompt(safe, *arguments, **named)
        weights = weights.repeat_interleave(len(given[0]) // len(texts))
        found: list[Tensor | None] = []
        for place, (one, two) in enumerate(zip(given, other, strict=True)):
            if one is None:
                found.append(None)
            elif one.dim() == 3:
                own = weights if place == 0 else torch.zeros(len(one))
                found.append(_packed(one, two if place == 0 else one, own))
            else:
                found.append(torch.cat([one, two if place == 2 else one], dim=1))
        return tuple(found)


def _packed(one: Tensor, two: Tensor, weights: Tensor) -> Tensor:
    """(rows, tokens, width) twice and (rows,) as one (rows, 2 tokens + 1, width)."""
    last = weights.to(one)[:, None, None].expand(-1, 1, one.shape[2])
    return torch.cat([one, two, last], dim=1)


class _Forward:
    def __init__(self, pipe: Any, context: float) -> None:
        self._unet, self._scheduler, self._context = pipe.unet, pipe.scheduler, context

    def __call__(
        self,
        sample: Tensor,
        timestep: Any,
        encoder_hidden_states: Tensor,
        *arguments: Any,
        return_dict: bool = True,
        **named: Any,
    ) -> Any:
        packed = encoder_hidden_states
        tokens, weights = packed.shape[1] // 2, packed[:, -1, 0]
        both = (packed[:, :tokens].contiguous(), packed[:, tokens : 2 * tokens].contiguous())

        def predicted(which: int) -> Tensor:
            more = _with_pooled(named, which)
            return self._unet(sample, timestep, both[which], *arguments, return_dict=False, **more)[
                0
            ]

        found = predicted(0)
        t = timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep
        if bool((weights > 0).any()) and share_done(self._scheduler, t) >= self._context:
            w = weights[:, None, None, None].to(found)
            found = (1 - w) * found + w * predicted(1)
        return UNet2DConditionOutput(sample=found) if return_dict else (found,)


def _with_pooled(named: dict[str, Any], which: int) -> dict[str, Any]:
    """The arguments with one text's pooled states, of SDXL."""
    added = named.get("added_cond_kwargs")
    if not added or "text_embeds" not in added:
        return named
    pooled = added["text_embeds"].chunk(2, dim=1)[which].contiguous()
    return {**named, "added_cond_kwargs": {**added, "text_embeds": pooled}}
