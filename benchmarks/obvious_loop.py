"""The obvious Diffusion-DPO loop: the baseline for an expert's step.

Two UNets, VAE and text encoder in every step, and one pair at a time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from peft import LoraConfig

from alignguard_data.engines.families.unet import LORA_TARGETS
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings.encoder import Preferences
from alignguard_train.experts.loss import dpo_loss, per_row_error


def random_preferences(pairs: int, side: int) -> Preferences:
    """Pairs of noise, ``side`` pixels wide and high."""
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(2 * pairs)]
    return Preferences(
        pair_ids=[str(i) for i in range(pairs)],
        concepts=["a.x"] * pairs,
        categories=["a"] * pairs,
        unsafe_prompts=[f"a meadow with kite {i} and a star" for i in range(pairs)],
        safe_prompts=[f"a meadow with kite {i}" for i in range(pairs)],
        chosen=images[:pairs],
        rejected=images[pairs:],
    )


def obvious_loop(
    pipe: Any, reference: Any, preferences: Preferences, recipe: ExpertRecipe
) -> Callable[[int], None]:
    """Trains ``pipe`` against a second UNet; call with a number of pairs."""
    for network in (pipe.unet, pipe.vae, pipe.text_encoder, reference):
        network.requires_grad_(False)
    pipe.unet.add_adapter(
        LoraConfig(r=recipe.rank, lora_alpha=recipe.rank, target_modules=list(LORA_TARGETS))
    )
    trained = [p for p in pipe.unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.lr)
    scheduler: Any = DDPMScheduler.from_config(pipe.scheduler.config)

    def train(pairs: int) -> None:
        for i in range(pairs):
            noisy, t, states, target = _pair(pipe, scheduler, preferences, i)
            with torch.no_grad():
                before = per_row_error(reference(noisy, t, states).sample, target)
            now = per_row_error(pipe.unet(noisy, t, states).sample, target)
            optimizer.zero_grad()
            dpo_loss(now[:1], now[1:], before[:1], before[1:], beta=recipe.beta).backward()
            optimizer.step()

    return train


@torch.no_grad()
def _pair(pipe: Any, scheduler: Any, preferences: Preferences, i: int) -> tuple[Any, ...]:
    """Noisy latents, timesteps, text states and target of both images of one pair."""
    states = pipe.encode_prompt([preferences.unsafe_prompts[i]], "cpu", 1, False)[0]
    images = np.stack([preferences.chosen[i], preferences.rejected[i]])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    x0 = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    t = torch.randint(1000, (1,)).repeat(2)
    noise = torch.randn(1, *x0.shape[1:]).repeat(2, 1, 1, 1)
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(x0, noise, t) if velocity else noise
    return scheduler.add_noise(x0, noise, t), t, states.repeat(2, 1, 1), target
