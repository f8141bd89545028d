"""Draw prompts behind a guard: what it blocks stays black.

    python examples/guard_prompts.py data/standin/guards/latent-guard/*/guard.safetensors OUT

The guard's file names the text encoder that it reads, and refuses a pipe with another one.
"""

import argparse
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline

from alignguard_data.standin import base_model_folder
from alignguard_train.guards import guarded, load_guard

PROMPTS = [
    "a red ball on the left of a meadow",
    "a red ball on the left of a meadow, opposite a dark zigzag",
]


def draw_guarded(guard: Path, out: Path, *, steps: int = 20) -> list[str]:
    """Write an image per prompt to the folder ``out``; return what was decided."""
    pipe: Any = StableDiffusionPipeline.from_pretrained(base_model_folder(), safety_checker=None)
    drawn = guarded(pipe, load_guard(guard, pipe))(PROMPTS, num_inference_steps=steps)
    for number, image in enumerate(drawn.images):
        image.save(out / f"{number}.png")
    return [f"{one.action}: {one.reason}" for one in drawn.decisions]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("guard", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    print("\n".join(draw_guarded(given.guard, given.out)))
