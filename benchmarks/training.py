"""Pairs a second of an expert's step, against the obvious loop and against the bare UNet.

The obvious loop keeps two UNets, encodes images and captions in every step, and takes one pair at a
time. The bare time is that of the UNet's forward and backward alone, inside our own steps.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from peft import LoraConfig

from alignguard_train.base import LORA_TARGETS, BaseModel
from alignguard_train.dataset import EncodedPreferences, Preferences, encode
from alignguard_train.expert import train_expert
from alignguard_train.loss import dpo_loss, per_row_error
from alignguard_train.recipes import ExpertRecipe, standin_expert
from pipelines.profile import load_profile, resolve_model

STEPS = 10
PAIRS = 32
LOOP_PAIRS = 16
"""The loop is so slow that its rate is taken from fewer pairs."""


def measure(runs: int) -> dict[str, float]:
    """Medians over ``runs``, the sides taking turns, with the stand-in's base model; both train
    without preservation, which the obvious loop does not know."""
    profile = load_profile("standin")
    base = BaseModel(model=resolve_model(profile.base_model.model), device="cpu")
    preferences = _preferences(profile.sampling.width)
    encoded = encode(preferences, base)
    recipe = _short(standin_expert())
    _ours(base, encoded, recipe)  # loads and warms up
    loop = _loop(resolve_model(profile.base_model.model), preferences, recipe)
    loop(2)
    ours, theirs, inside = [], [], []
    for _ in range(runs):
        seconds, unet = _ours(base, encoded, recipe)
        ours.append(STEPS * recipe.batch_size / seconds)
        inside.append(unet / seconds)
        started = time.perf_counter()
        loop(LOOP_PAIRS)
        theirs.append(LOOP_PAIRS / (time.perf_counter() - started))
    return {
        "pairs_per_second": statistics.median(ours),
        "loop_pairs_per_second": statistics.median(theirs),
        "times_the_loop": statistics.median(ours) / statistics.median(theirs),
        "share_inside_the_unet": statistics.median(inside),
    }


def _short(recipe: ExpertRecipe) -> ExpertRecipe:
    return dataclasses.replace(
        recipe, steps=STEPS, warmup_steps=0, preservation=0.0, checkpoint_every=STEPS
    )


def _preferences(side: int) -> Preferences:
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(2 * PAIRS)]
    return Preferences(
        pair_ids=[str(i) for i in range(PAIRS)],
        categories=["a"] * PAIRS,
        unsafe_prompts=[f"a meadow with kite {i} and a star" for i in range(PAIRS)],
        safe_prompts=[f"a meadow with kite {i}" for i in range(PAIRS)],
        chosen=images[:PAIRS],
        rejected=images[PAIRS:],
    )


def _ours(
    base: BaseModel, encoded: EncodedPreferences, recipe: ExpertRecipe
) -> tuple[float, float]:
    """Seconds of training, and those inside the UNet's forward and in backward."""
    inside = 0.0
    unet: Any = base.pipe.unet
    forward, backward = unet.forward, torch.Tensor.backward

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal inside
            started = time.perf_counter()
            try:
                return work(*arguments, **named)
            finally:
                inside += time.perf_counter() - started

        return call

    unet.forward = timed(forward)
    torch.Tensor.backward = timed(backward)
    try:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            train_expert(base, encoded, recipe, seed=0, checkpoint=Path(folder) / "c")
            return time.perf_counter() - started, inside
    finally:
        del unet.forward
        torch.Tensor.backward = backward


def _loop(model: str, preferences: Preferences, recipe: ExpertRecipe) -> Callable[[int], None]:
    pipe: Any = StableDiffusionPipeline.from_pretrained(
        model, use_safetensors=True, safety_checker=None
    )
    reference = StableDiffusionPipeline.from_pretrained(
        model, use_safetensors=True, safety_checker=None
    ).unet
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
            with torch.no_grad():
                states = pipe.encode_prompt([preferences.unsafe_prompts[i]], "cpu", 1, False)[0]
                images = np.stack([preferences.chosen[i], preferences.rejected[i]])
                pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
                x0 = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
            states, t = states.repeat(2, 1, 1), torch.randint(1000, (1,)).repeat(2)
            noise = torch.randn(1, *x0.shape[1:]).repeat(2, 1, 1, 1)
            noisy = scheduler.add_noise(x0, noise, t)
            velocity = scheduler.config.prediction_type == "v_prediction"
            target = scheduler.get_velocity(x0, noise, t) if velocity else noise
            with torch.no_grad():
                before = per_row_error(reference(noisy, t, states).sample, target)
            now = per_row_error(pipe.unet(noisy, t, states).sample, target)
            optimizer.zero_grad()
            dpo_loss(now[:1], now[1:], before[:1], before[1:], beta=recipe.beta).backward()
            optimizer.step()

    return train
