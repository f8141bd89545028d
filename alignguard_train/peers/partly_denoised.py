"""Where a trained peer takes its noisy latents from: the model itself, stopped on the way."""

import copy
from typing import Any

import torch
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Conditions, Pipe, concatenated
from alignguard_data.engines.families.registry import family_of


@torch.no_grad()
def partly_denoised(
    pipe: Pipe,
    without: Conditions,
    given: Conditions,
    generator: torch.Generator,
    *,
    steps: int,
    guidance_scale: float,
) -> tuple[Tensor, Tensor]:
    """Denoise up to a random step.

    Args:
        pipe: denoises.
        without: unconditional rows.
        given: as many conditional rows.
        generator: of the noise and of the step.
        steps: of a whole denoising.
        guidance_scale: of the denoising.

    Returns:
        Latents as the UNet's input, one a row, and the timestep.
    """
    scheduler: Any = copy.deepcopy(pipe.scheduler)
    unet: Any = pipe.unet
    scheduler.set_timesteps(steps, device=unet.device)
    side = family_of(pipe).native_size(pipe) // pipe.vae_scale_factor
    shape = (len(given), unet.config.in_channels, side, side)
    latents = torch.randn(shape, generator=generator).to(unet.device, unet.dtype)
    latents = latents * scheduler.init_noise_sigma
    both = unet_arguments(pipe, concatenated([without, given]), latents)
    until = int(torch.randint(len(scheduler.timesteps), (1,), generator=generator))
    for t in scheduler.timesteps[:until]:
        rows = scheduler.scale_model_input(torch.cat([latents, latents]), t)
        u, c = unet(rows, t, **both, return_dict=False)[0].chunk(2)
        guided = u + guidance_scale * (c - u)
        latents = scheduler.step(guided, t, latents, return_dict=False)[0]
    t = scheduler.timesteps[until]
    return scheduler.scale_model_input(latents, t), t


def unet_arguments(pipe: Pipe, conditions: Conditions, latents: Tensor) -> dict[str, Any]:
    """The UNet's arguments for images of the latents' size."""
    height, width = (side * pipe.vae_scale_factor for side in latents.shape[2:])
    return family_of(pipe).arguments(pipe.unet, conditions, height=height, width=width)
