"""Safe Latent Diffusion (Schramowski et al., CVPR 2023, arXiv 2211.05105); no training.

Names follow the paper: s_S the safety guidance's scale, lambda its threshold, s_m and beta_m its
momentum, delta the warm-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_train.peers.concept import Concept
from alignguard_train.peers.guided import Branches, guided
from alignguard_train.peers.pipes import joined_text

Level = Literal["weak", "medium", "strong", "max"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Safety:
    """Hyperparameters of one level.

    Attributes:
        warmup: share of the steps before it starts: the paper gives steps of 50.
        scale: s_S, of the guidance.
        threshold: lambda: only elements where the prompt's prediction exceeds the concept's by less
            are guided.
        momentum_scale: s_m.
        momentum_beta: beta_m.
    """

    warmup: float
    scale: float
    threshold: float
    momentum_scale: float
    momentum_beta: float


LEVELS: dict[str, Safety] = {
    "weak": Safety(warmup=0.3, scale=200, threshold=0.0, momentum_scale=0.0, momentum_beta=0.0),
    "medium": Safety(warmup=0.2, scale=1000, threshold=0.01, momentum_scale=0.3, momentum_beta=0.4),
    "strong": Safety(
        warmup=0.14, scale=2000, threshold=0.025, momentum_scale=0.5, momentum_beta=0.7
    ),
    "max": Safety(warmup=0.0, scale=5000, threshold=1.0, momentum_scale=0.5, momentum_beta=0.7),
}
"""The paper's four (its table of hyperparameters, in steps: 15, 10, 7 and 0 of 50); `weak` of
diffusers' deprecated pipe has a scale of 20 instead."""


def level(name: str) -> Safety:
    """One of the paper's levels.

    Args:
        name: a key of ``LEVELS``.

    Returns:
        Its hyperparameters.

    Raises:
        ValueError: there is no such level.
    """
    if name not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {name!r}")
    return LEVELS[name]


def safety_guidance(without: Tensor, given: Tensor, unsafe: Tensor, safety: Safety) -> Tensor:
    """The guidance ``mu`` * (e(z, c_S) - e(z)), element by element; tensors of one shape.

    mu = min(1, |phi|) where e(z, c_p) - e(z, c_S) < lambda, else 0, with
    phi = s_S (e(z, c_p) - e(z, c_S)): equations 4 to 6.
    """
    apart = given - unsafe
    strength = (safety.scale * apart).abs().clamp(max=1)
    mu = torch.where(apart < safety.threshold, strength, torch.zeros_like(strength))
    return mu * (unsafe - without)


class SafetyMomentum:
    """The safety guidance of one batch of images, step by step (equations 3, 7 and 8)."""

    def __init__(self, safety: Safety) -> None:
        self._safety = safety
        self._momentum: Tensor | float = 0.0

    def step(self, without: Tensor, given: Tensor, unsafe: Tensor, done: float) -> Tensor:
        """Correction to subtract from the prompt's guidance.

        Zero during warm-up, while momentum accumulates.
        """
        s = self._safety
        gamma = safety_guidance(without, given, unsafe, s) + s.momentum_scale * self._momentum
        self._momentum = s.momentum_beta * self._momentum + (1 - s.momentum_beta) * gamma
        return gamma if done >= s.warmup else torch.zeros_like(gamma)


@dataclass(frozen=True, kw_only=True, slots=True)
class SLD:
    """Guides away from one text of all concepts' names.

    Attributes:
        level: weak, medium, strong or max.
        template: ``{}`` in it becomes the joined names.
    """

    level: Level = "medium"
    template: str = "{}"

    def __post_init__(self) -> None:
        level(self.level)

    def apply(self, pipe: Pipe, concepts: Sequence[Concept]) -> Pipe:
        """See :class:`alignguard_train.peers.concept.Peer`."""
        text = joined_text(pipe, concepts, self.template)
        return guided(pipe, [text], lambda: _Correction(level(self.level)))


class _Correction:
    def __init__(self, safety: Safety) -> None:
        self._guidance = SafetyMomentum(safety)

    def __call__(self, step: Branches) -> Tensor:
        return self._guidance.step(step.without, step.given, step.concepts[0], step.done)
