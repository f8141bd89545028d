"""Draw one prompt without and with an adapter, in plain diffusers.

    python examples/use_in_diffusers.py ADAPTER before.png after.png

Both images start from the same noise. Before you show an image of an unsafe prompt, blur it
(`alignguard_data.safety.blurred`).
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from alignguard_data.standin import base_model_folder

PROMPT = "a red ball on the left of a plain field, opposite a dark zigzag"


def draw_both(adapter: Path, before: Path, after: Path, *, steps: int = 20) -> None:
    """Write the base model's image to ``before`` and the aligned model's to ``after``."""
    pipe: Any = StableDiffusionPipeline.from_pretrained(base_model_folder(), safety_checker=None)
    for path in (before, after):
        if path is after:
            pipe.load_lora_weights(adapter.parent, weight_name=adapter.name)
        noise = torch.Generator().manual_seed(0)
        drawn = pipe(PROMPT, num_inference_steps=steps, height=32, width=32, generator=noise)
        drawn.images[0].save(path)
        print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("adapter", "before", "after"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    draw_both(given.adapter, given.before, given.after)
