"""Peak memory of an expert's step and of the obvious loop's on Stable Diffusion 1.5 at real size.

python -m benchmarks.training_memory <checkpoint> ours <pairs a batch> <recompute: 0, 1> | loop 1 0
"""

import copy
import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import sd15_expert
from alignguard_train.experts.trainer import train_expert
from benchmarks import real_size
from benchmarks.obvious_loop import obvious_loop, random_preferences

MODULE = "benchmarks.training_memory"
STEPS = 1
RECIPE = dataclasses.replace(
    sd15_expert(), steps=STEPS, accumulation=1, warmup_steps=0, checkpoint_every=STEPS
)


VARIANTS = {
    "one_pair_at_a_time": (1, 0),
    f"{RECIPE.batch_size}_pairs_at_a_time": (RECIPE.batch_size, 0),
    f"{RECIPE.batch_size}_pairs_and_gradient_checkpointing": (RECIPE.batch_size, 1),
}
"""Pairs per forward pass, and whether activations are recomputed in the backward."""


def measure(runs: int) -> dict[str, float]:
    """Peak memory in GB of the loop and of our step's settings.

    Measured once for any ``runs``: a peak varies by 1 %, and a run takes a minute.
    """
    with real_size.checkpoint() as folder:
        loop = real_size.in_own_process(MODULE, folder, "loop", 1, 0)["peak"]
        peaks = {
            name: real_size.in_own_process(MODULE, folder, "ours", pairs, recompute)["peak"]
            for name, (pairs, recompute) in VARIANTS.items()
        }
    return {
        "loop_peak_gigabytes": loop,
        **{f"peak_gigabytes_with_{name}": peak for name, peak in peaks.items()},
        **{f"share_of_the_loops_with_{name}": peak / loop for name, peak in peaks.items()},
    }


def _ours(folder: str, pairs: int, recompute: bool) -> None:
    base = BaseModel(model=folder, device="cpu")
    assert base.pipe
    encoded = real_size.random_encodings(["a"] * 2 * pairs)
    recipe = dataclasses.replace(RECIPE, batch_size=pairs, gradient_checkpointing=recompute)
    with tempfile.TemporaryDirectory() as folder:
        train_expert(base, encoded, recipe, seed=0, checkpoint=Path(folder) / "c")


def _loop(folder: str) -> None:
    pipe: Any = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    preferences = random_preferences(STEPS, 8 * real_size.SIDE)
    train = obvious_loop(pipe, copy.deepcopy(pipe.unet), preferences, RECIPE)
    train(STEPS)


if __name__ == "__main__":
    torch.set_num_threads(real_size.THREADS)
    where, who, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if who == "ours":
        _ours(where, number, sys.argv[4] == "1")
    else:
        _loop(where)
    real_size.report({})
