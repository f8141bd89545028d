"""Pairs per second of an expert's step, against the obvious loop and the bare UNet.

The obvious loop keeps two UNets, encodes images and captions in every step, and takes one pair at a
time. The bare time is of the UNet's forward and backward only, within our steps.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe, standin_expert
from alignguard_train.encodings.encoder import EncodedPreferences, encode
from alignguard_train.experts.trainer import train_expert
from benchmarks.obvious_loop import obvious_loop, random_preferences
from pipelines.profile import load_profile
from pipelines.profile_paths import resolve_model

STEPS = 30
"""A quarter of the recipe's; attaching and removing the adapter is included."""
PAIRS = 32
LOOP_PAIRS = 16
"""The loop is slow, so it trains on fewer pairs."""


def measure(runs: int) -> dict[str, float]:
    """Medians over ``runs``, alternating sides, with the stand-in's base model.

    Both train without preservation, which the obvious loop lacks.
    """
    profile = load_profile("standin")
    base = BaseModel(model=resolve_model(profile.base_model.model), device="cpu")
    preferences = random_preferences(PAIRS, profile.sampling.width)
    encoded = encode(preferences, base)
    recipe = _short(standin_expert())
    _ours(base, encoded, recipe)  # warm-up
    two = [
        StableDiffusionPipeline.from_pretrained(
            resolve_model(profile.base_model.model), use_safetensors=True, safety_checker=None
        )
        for _ in range(2)
    ]
    loop = obvious_loop(two[0], two[1].unet, preferences, recipe)
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


def _ours(
    base: BaseModel, encoded: EncodedPreferences, recipe: ExpertRecipe
) -> tuple[float, float]:
    """Seconds of training, and of the UNet's forward and backward."""
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
