"""What attacks on the denoiser share: free places in a prompt, reference latents, predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.robustness.attacks.trace import Trace
from alignguard_train.robustness.attacks.weighted_tokens import one_hot
from alignguard_train.robustness.protocol import Case, Target, Vocabulary

TRAINING_STEPS = 1000
"""Timesteps of the training schedule of Stable Diffusion 1, 2 and XL."""

Layout = tuple[int | None, ...]
"""A prompt's ids with free places, which are None."""


def filled(layout: Layout, tokens: Sequence[int]) -> tuple[int, ...]:
    """The layout with tokens in its free places, in order."""
    free = iter(tokens)
    return tuple(next(free) if one is None else one for one in layout)


def weights_of(vocabulary: Vocabulary, layout: Layout, free: Tensor) -> Tensor:
    """The layout as weights, with gradients to its free rows.

    Args:
        vocabulary: of the ids.
        layout: ordinary ids and free places.
        free: weights of the free places, (places, V).

    Returns:
        Weights (1, len(layout), V).
    """
    fixed = one_hot(vocabulary, [vocabulary.ordinary[0] if i is None else i for i in layout])
    places = [place for place, one in enumerate(layout) if one is None]
    return fixed.index_put((torch.tensor(places),), free)[None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Noisy:
    """Latents with noise, as many rows as timesteps; ``wanted`` is what to predict for them."""

    latents: Tensor
    wanted: Tensor
    timesteps: Tensor


def reference_latents(trace: Trace, case: Case, *, samples: int = 1) -> Tensor:
    """Latents of an image of the prompt by the undefended model: (1, channels, h, w).

    Of several images, at the case's seed and those after it, the one with the highest score.
    """
    seeds = [case.seed + i for i in range(samples)]
    images = trace.target.render([case.prompt] * samples, seeds, base=True)
    best = 0
    if samples > 1:
        scores = [verdict.score for verdict in trace.judged(images, case)]
        best = max(range(samples), key=scores.__getitem__)
    return trace.target.latents(images[best : best + 1]).detach()


def noisy(
    target: Target, latents: Tensor, timesteps: Sequence[int], generator: torch.Generator
) -> Noisy:
    """Noisy rows of one row of latents, or of as many rows as timesteps."""
    rows = latents.expand(len(timesteps), *latents.shape[1:])
    noise = torch.randn(rows.shape, generator=generator).to(rows)
    t = torch.tensor(timesteps, device=rows.device)
    found, wanted = target.noised(rows, noise, t)
    return Noisy(latents=found, wanted=wanted, timesteps=t)


def prediction_error(target: Target, given: Noisy, conditions: Conditions) -> Tensor:
    """Mean squared error of each row's prediction: (rows,), float32."""
    found = target.predict(given.latents, given.timesteps, conditions)
    return (found.float() - given.wanted.to(found.device).float()).pow(2).flatten(1).mean(1)
