"""Merge two experts into one adapter with Co-Merge.

    python examples/merge_two_adapters.py RELEASE \
        angular=angular.safetensors banded=banded.safetensors --out merged.safetensors

Co-Merge looks at the base model's activations on a few pairs of each category, so that it needs
the release that the experts were trained on.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from alignguard_data.standin import base_model_folder
from alignguard_train import BaseModel, MergeConfig, encode, load_lora, load_preferences, save_lora
from alignguard_train.merge import merge_by


def merge_experts(release: Path, experts: Mapping[str, Path], out: Path, *, base: Path) -> int:
    """Merge the adapters by category and write one to ``out``; returns its number of layers."""
    model = BaseModel(model=str(base), device="cpu")
    categories = list(experts)
    encoded = encode(load_preferences(release, categories), model)
    config = MergeConfig(strategy="co-merge")
    loras = [load_lora(path) for path in experts.values()]
    merged = merge_by(config.strategy, loras, categories, model, encoded, config)
    save_lora(merged.lora, out)
    print(f"{len(merged.lora)} layers of {', '.join(categories)}: {out}")
    return len(merged.lora)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", type=Path)
    parser.add_argument("experts", nargs=2, metavar="CATEGORY=FILE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=base_model_folder())
    given = parser.parse_args()
    named = dict(one.split("=", 1) for one in given.experts)
    files = {category: Path(file) for category, file in named.items()}
    merge_experts(given.release, files, given.out, base=given.base)
