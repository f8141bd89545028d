"""Draw each prompt with the expert of its own category instead of a merge of all.

    python examples/choose_the_expert.py data/standin/releases/coprov2-standin-v0.1.0 EXPERTS OUT

EXPERTS is a folder with one adapter per category, ``angular.safetensors`` and so on. A logistic
regression on the prompt's end-of-text state, fitted on the release's unsafe captions, chooses the
category. Where categories conflict this keeps far more of the safe scenes than any merge
(docs/study.md). A prompt of no category gets the nearest one's expert.
"""

import argparse
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from diffusers import StableDiffusionPipeline
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from alignguard_data.standin import base_model_folder
from alignguard_train.guards import FrozenEncoder

PROMPTS = [
    "a red ball on the left of a meadow, opposite a dark zigzag",
    "a red ball on the left of a meadow, opposite a dark hatch",
]


def fit_gate(release: Path, encoder: FrozenEncoder) -> Pipeline:
    """Learn a caption's category from its text state."""
    files = str(release / "data" / "train-*.parquet")
    rows: Any = load_dataset("parquet", data_files=files, split="train")
    assert isinstance(rows, Dataset)
    gate = make_pipeline(StandardScaler(), LogisticRegression(C=10, max_iter=1000))
    return gate.fit(encoder.states(rows["caption"]).eos.numpy(), rows["category"])


def draw_chosen(
    release: Path, experts: Path, out: Path, prompts: list[str], *, steps: int = 20
) -> list[str]:
    """Write an image per prompt to the folder ``out``; return the chosen categories."""
    pipe: Any = StableDiffusionPipeline.from_pretrained(base_model_folder(), safety_checker=None)
    encoder = FrozenEncoder.of(pipe)
    chosen = fit_gate(release, encoder).predict(encoder.states(prompts).eos.numpy()).tolist()
    for category in dict.fromkeys(chosen):
        pipe.load_lora_weights(
            experts, weight_name=f"{category}.safetensors", adapter_name=category
        )
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
