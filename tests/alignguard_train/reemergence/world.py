"""A release of drawn pairs, a tiny base model with safety adapters, and a judge of red."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.pixels import encode_png
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.families.unet import LORA_TARGETS
from alignguard_data.storage.paths import DataRoot
from alignguard_train.adapters.lora import Lora, LoraLayer, save_lora
from alignguard_train.base import BaseModel
from alignguard_train.evaluation.config import EvaluationConfig, ScoreKey
from alignguard_train.reemergence.config import BenignConfig, ReemergenceConfig, TuningRecipe
from alignguard_train.reemergence.models import Models
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from tests.alignguard_train.evaluation.world import write_release

KINDS = {"sd15": lambda: tiny_pipe("epsilon"), "sdxl": tiny_xl}
SAMPLING = Sampling(num_inference_steps=1, guidance_scale=3.0, width=16, height=16, batch_size=6)
RECIPE = TuningRecipe(rank=2, lr=1e-2, full_lr=1e-3, batch_size=3, checkpoint_every=1)
CONFIG = ReemergenceConfig(
    steps=(1, 3), seeds=(0, 1), benign=BenignConfig(rows=6, held_out=2), recipe=RECIPE,
    prompts_per_concept=2, bootstrap_resamples=100,
)  # fmt: skip
EVALUATION = EvaluationConfig(
    flags=(FlagRule(scorer="red", key="mean", at_least=0.5),),
    fidelity=ScoreKey(scorer="red", key="mean"),
)


class Scorer:
    """Mean red; dies at one of its calls, if it is asked to."""

    name = "red"
    version = "1"
    keys = ("mean",)

    def __init__(self, dies_at: int | None = None) -> None:
        self.calls, self.dies_at = 0, dies_at

    def score(self, images, prompts) -> list[dict[str, float]]:
        self.calls += 1
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        return [{"mean": float(np.mean(image[..., 0]) / 255)} for image in images]


def random_lora(base: BaseModel, seed: int, size: float = 0.3, rank: int = 2) -> Lora:
    """An adapter of every attention projection with random weights."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: LoraLayer(
            size * torch.randn(rank, module.in_features, generator=draw),
            size * torch.randn(module.out_features, rank, generator=draw),
        )
        for name, module in _projections(base).items()
    }


def _projections(base: BaseModel) -> dict[str, torch.nn.Linear]:
    """By plain name: a trainable adapter that was taken off leaves its layers wrapped."""
    found = {
        name.removesuffix(".base_layer"): module
        for name, module in base.pipe.unet.named_modules()
        if type(module) is torch.nn.Linear
    }
    return {name: module for name, module in found.items() if name.endswith(LORA_TARGETS)}


def build(folder: Path, kind: str = "sd15", *, rows: int = 10, red: int = 40) -> DataRoot:
    """A release with images of ``red``, a checkpoint and two safety adapters."""
    data = DataRoot(root=folder, profile="test")
    release = write_release(data)
    (release / "data").mkdir()
    table = [_pair(number, red) for number in range(rows)]
    schema = pa.Table.from_pylist([_pair(0, red)]).schema
    file = release / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(table, schema=schema), file)
    KINDS[kind]().save_pretrained(folder / "base", safe_serialization=True)
    base = BaseModel(model=str(folder / "base"), device="cpu")
    for number, name in enumerate(("merged", "average")):
        save_lora(random_lora(base, number), folder / f"{name}.safetensors")
    return data


def _pair(number: int, red: int) -> dict[str, object]:
    draw = np.random.default_rng(number)
    images = draw.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    images[0, ..., 0] = red
    return {
        "pair_id": f"{number:032d}",
        "concept": "shape.dot",
        "category": "shape",
        "caption": f"a ball {number} with a mark",
        "caption_safe": f"a ball {number}",
        "jpg_0": encode_png(images[0]),
        "jpg_1": encode_png(images[1]),
    }


def models(folder: Path, scorer: Scorer | None = None, **adapters: Path) -> Models:
    """The engines over what :func:`build` wrote there."""
    named = adapters or {
        "merged": folder / "merged.safetensors",
        "merge:average": folder / "average.safetensors",
    }
    return Models(
        adapters=named,
        base=BaseModel(model=str(folder / "base"), device="cpu"),
        generator=DiffusersImageGenerator(
            model=str(folder / "base"), sampling=SAMPLING, device="cpu", threads=1
        ),
        scorers=[scorer or Scorer()],
        evaluation=EVALUATION,
    )
