"""Noise and timesteps that training and calibration share."""

import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_train.contracts.flow import FlowTraining


def noised(
    scheduler: Any, x0: Tensor, noise: Tensor, t: Tensor, *, shift: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Add noise to latents as in training.

    Args:
        scheduler: the base model's; its class and configuration decide the prediction type.
        x0: latents (rows, channels, h, w).
        noise: likewise.
        t: timesteps (rows,), from 0 to the scheduler's number of training timesteps - 1.
        shift: of a flow's shares of noise; None takes the scheduler's own number.

    Returns:
        Noisy latents (rows, channels, h, w), the network's time input (rows,), and its prediction
        target (rows, channels, h, w).

    Raises:
        EngineError: the prediction type is not supported.
    """
    kind = prediction_type_of(scheduler)
    if kind == "flow":
        steps = scheduler.config.num_train_timesteps
        own = scheduler.config.shift if shift is None else shift
        sigma = flow_sigma(t, steps=steps, shift=own)
        target = prediction_target(kind, x0, noise, t, None)
        return add_flow_noise(x0, noise, sigma), sigma * steps, target
    alphas = scheduler.alphas_cumprod.to(x0.device)
    target = prediction_target(kind, x0, noise, t, alphas)
    return add_noise(x0, noise, t, alphas), t, target


def prediction_type_of(scheduler: Any) -> str:
    """Find what a scheduler's network predicts.

    Args:
        scheduler: the base model's.

    Returns:
        ``epsilon``, ``v_prediction`` or ``flow`` (rectified flow, as in SD3.5 and FLUX).
    """
    if type(scheduler).__name__.startswith("FlowMatch"):
        return "flow"
    return scheduler.config.prediction_type


def add_noise(latents: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise; rows (batch, ...), timesteps (batch,)."""
    a = per_row(alphas_cumprod[t], latents)
    return a.sqrt() * latents + (1 - a).sqrt() * noise


def flow_sigma(t: Tensor, *, steps: int, shift: float = 1.0) -> Tensor:
    """Share of noise of rectified flow at a timestep.

    Evenly spaced s = (t + 1) / steps, shifted to shift s / (1 + (shift - 1) s): large images need
    more noise to lose the same information (arXiv 2403.03206, equation 23; SD3.5 has shift 3).

    Args:
        t: timesteps (rows,), from 0 to steps - 1.
        steps: number of training timesteps.
        shift: 1 for evenly spaced shares.

    Returns:
        Shares (rows,), in (0, 1].
    """
    s = (t + 1) / steps
    return shift * s / (1 + (shift - 1) * s)


def timesteps_up_to(share: float, steps: int, *, shift: float | None = None) -> int:
    """Number of the least noisy timesteps whose noise is at most a share.

    Args:
        share: in (0, 1]: of the timesteps of a diffusion model, or of a flow's noise, shifted.
        steps: number of training timesteps.
        shift: of the flow; None for a diffusion model.

    Returns:
        At least 1. Timesteps below it are those of :func:`noised`.
    """
    even = share if shift is None else share / (shift - (shift - 1) * share)
    return max(1, int(even * steps + 1e-9))  # 0.29 * 100 is just below 29


def drawn_timesteps(
    number: int,
    steps: int,
    flow: FlowTraining | None,
    generator: torch.Generator,
    *,
    below: int | None = None,
) -> Tensor:
    """Draw timesteps: uniformly, or for a flow as its settings say.

    Logit-normal is sigmoid(mean + deviation * n) with n standard normal, arXiv 2403.03206, equation
    19; with ``below`` it is that distribution cut off there, by its quantiles. Timesteps grow with
    the noise, unlike the places in a diffusers scheduler's list.

    Args:
        number: how many.
        steps: number of training timesteps.
        flow: the settings; None for a diffusion model.
        generator: of the CPU.
        below: first timestep that is not drawn; None draws all.

    Returns:
        Timesteps, int64 (number,), from 0 to steps - 1.
    """
    last = steps if below is None else below
    if flow is None or flow.times == "uniform":
        return torch.randint(last, (number,), generator=generator)
    if last == steps:
        n = torch.randn(number, generator=generator)
    else:
        edge = torch.tensor(last / steps, dtype=torch.float64).logit()
        most = torch.special.ndtr((edge - flow.mean) / flow.deviation)
        drawn = torch.rand(number, generator=generator, dtype=torch.float64)
        n = torch.special.ndtri(drawn * most)
    share = (flow.mean + flow.deviation * n).sigmoid()
    return (share * steps).long().clamp(max=last - 1)


def flow_weight(sigma: Tensor, flow: FlowTraining) -> Tensor:
    """Weight of each row's error by its share of noise.

    The image that a velocity implies is x_t - sigma v, so its error is sigma^2 times the
    velocity's. cosmap is 2 / (pi (1 - 2 sigma + 2 sigma^2)) (arXiv 2403.03206, section 3.1).

    Args:
        sigma: shares of noise (rows,), shifted.
        flow: the settings.

    Returns:
        Weights, float32 (rows,).
    """
    if flow.weighting == "sigma-squared":
        return sigma.float().pow(2)
    if flow.weighting == "cosmap":
        return 2 / (math.pi * (1 - 2 * sigma.float() + 2 * sigma.float().pow(2)))
    return torch.ones_like(sigma, dtype=torch.float32)


def add_flow_noise(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_t = (1 - sigma) x_0 + sigma noise (rectified flow, arXiv 2209.03003)."""
    share = per_row(sigma, latents)
    return (1 - share) * latents + share * noise


def prediction_target(
    prediction_type: str, latents: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor | None
) -> Tensor:
    """The target of the network's prediction.

    The noise; or v = sqrt(a_t) noise - sqrt(1 - a_t) x_0; or the flow's velocity, noise - x_0.

    Args:
        prediction_type: ``epsilon``, ``v_prediction`` or ``flow``.
        latents: x_0 (rows, channels, h, w).
        noise: likewise.
        t: timesteps (rows,).
        alphas_cumprod: a_t by timestep; only ``v_prediction`` needs it.

    Returns:
        The target (rows, channels, h, w).

    Raises:
        EngineError: the prediction type is not supported.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "flow":
        return noise - latents
    if prediction_type == "v_prediction" and alphas_cumprod is not None:
        a = per_row(alphas_cumprod[t], latents)
        return a.sqrt() * noise - (1 - a).sqrt() * latents
    raise EngineError(
        f"prediction type {prediction_type!r} is none of epsilon, v_prediction and flow"
    )


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Shape values so that they multiply a batch row by row.

    Args:
        values: (rows,).
        like: (rows, ...).

    Returns:
        ``values`` in the type of ``like``, (rows, 1, ...).
    """
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def seeded(what: str, seed: int, number: int) -> torch.Generator:
    """Make a random generator for one purpose at one step, epoch or start.

    Args:
        what: the purpose.
        seed: the training's seed.
        number: of the step, epoch or start.

    Returns:
        A generator on the CPU.
    """
    digest = hashlib.blake2b(f"{what} {seed} {number}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest) >> 1)
