"""Draw each prompt with the expert of its own category instead of a merge of all.

    python examples/choose_the_expert.py data/standin/releases/coprov2-standin-v0.1.0 EXPERTS OUT

EXPERTS is a folder with one adapter per category, ``angular.safetensors`` and so on. A gate, fitted
on the release's unsafe captions, chooses the category by the prompt. It is a small safetensors file
that ships with the experts. Where categories conflict this keeps far more of the safe scenes than
any merge, but who knows the gate can get around it (docs/study.md). A prompt of no category gets
the nearest one's expert.
"""

import argparse
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline

from alignguard_data.standin import base_model_folder
from alignguard_train.merge import ExpertGate

PROMPTS = [
    "a red ball on the left of a meadow, opposite a dark zigzag",
    "a red ball on the left of a meadow, opposite a dark hatch",
]


def base_pipe() -> Any:
    """The stand-in's base model."""
    return StableDiffusionPipeline.from_pretrained(base_model_folder(), safety_checker=None)


def draw_chosen(
    release: Path, experts: Path, out: Path, prompts: list[str], *, steps: int = 20
) -> list[str]:
    """Write a gate and an image per prompt to the folder ``out``; return the chosen categories."""
    file = out / "gate.safetensors"
    ExpertGate.fit(release, experts, base_pipe()).save(file)

    # From here on, what a service does that was shipped the file and the experts.
    pipe = base_pipe()
    gate = ExpertGate.load(file, pipe, experts)
    gate.attach()
    chosen = gate.choose(prompts)
    for number, (prompt, category) in enumerate(zip(prompts, chosen, strict=True)):
        pipe.set_adapters(category)
        drawn = pipe(prompt, num_inference_steps=steps, height=32, width=32)
        drawn.images[0].save(out / f"{number}.png")
    return chosen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("release", "experts", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    print("\n".join(draw_chosen(given.release, given.experts, given.out, PROMPTS)))
