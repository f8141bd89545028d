"""Train one LoRA expert on one category of a release.

    python examples/train_one_expert.py RELEASE CATEGORY expert.safetensors

RELEASE is a folder such as `data/standin/releases/coprov2-standin-v0.1.0`. The base model is the
stand-in's; give `--base` another folder that diffusers can load.
"""

import argparse
import dataclasses
from pathlib import Path

from alignguard_data.standin import base_model_folder
from alignguard_train import (
    BaseModel,
    encode,
    load_preferences,
    save_lora,
    standin_expert,
    train_expert,
)


def train(release: Path, category: str, out: Path, *, base: Path, steps: int) -> float:
    """Train for ``steps`` steps, write the adapter to ``out``; returns the last loss."""
    model = BaseModel(model=str(base), device="cpu")
    encoded = encode(load_preferences(release, [category]), model)
    recipe = dataclasses.replace(standin_expert(), steps=steps, warmup_steps=min(10, steps // 2))
    trained = train_expert(
        model, encoded, recipe, seed=0, checkpoint=out.with_suffix(".checkpoint")
    )
    save_lora(trained.lora, out)
    loss = float(trained.history[-1, 0])
    print(f"{len(encoded)} pairs, {steps} steps, last loss {loss:.4f}: {out}")
    return loss


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", type=Path)
    parser.add_argument("category")
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path, default=base_model_folder())
    parser.add_argument("--steps", type=int, default=120)
    given = parser.parse_args()
    train(given.release, given.category, given.out, base=given.base, steps=given.steps)
