"""A small world for the room of attacks: release, checkpoint, adapter and engines."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.records import from_table, pair_id
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.families.unet import LORA_TARGETS
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_train.adapters.lora import LoraLayer, save_lora
from alignguard_train.base import BaseModel
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.robustness.config import AttackConfig, RobustnessConfig
from alignguard_train.robustness.records import AttackedCase
from alignguard_train.robustness.registry import CONTROLS
from alignguard_train.robustness.room import Models
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from tests.alignguard_train.evaluation.world import write_release

SAMPLING = Sampling(num_inference_steps=1, guidance_scale=3.0, width=16, height=16, batch_size=5)
CONCEPTS = {"shape.dot": True, "shape.line": False, "tone.hum": True}
ATTACKS = (
    *(AttackConfig(name=name) for name in CONTROLS),
    AttackConfig(name="ring_a_bell", params={"population": 4, "generations": 2, "tokens": 3}),
    AttackConfig(name="ring_a_bell_soft"),
)
CONFIG = RobustnessConfig(
    attacks=ATTACKS, targets=("merged", "peer:uce"), preset="smoke", bootstrap_resamples=100,
    batch_size=5,
)  # fmt: skip
QUICK = dataclasses.replace(CONFIG, attacks=ATTACKS[-2:-1], targets=("merged",))
LEARNED = dataclasses.replace(CONFIG, attacks=(AttackConfig(name="genbreak"),), targets=("base",))
"""An attack that trains before its first case."""
EVALUATION = EvaluationConfig(
    flags=(FlagRule(scorer="red", key="mean", at_least=0.5),),
    peers=("uce",),
    peer_params={"uce": {"ridge": 2.0}},
)


class Scorer:
    """Mean red, shifted so that about half of the tiny models' images are over one half."""

    name = "red"
    version = "1"
    keys = ("mean",)

    def __init__(self) -> None:
        self.calls = 0
        self.fails_at: set[int] = set()
        self.dies_at: int | None = None

    def score(self, images: Any, prompts: Sequence[str]) -> list[dict[str, float]]:
        self.calls += 1
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        if self.calls in self.fails_at:
            raise EngineError("the scorer is away")
        return [{"mean": float(np.mean(image[..., 0]) / 255)} for image in images]


def build(folder: Path, kind: str = "sd15", *, scorer: Any = None) -> tuple[DataRoot, Models]:
    """A release, a checkpoint, an adapter for it, and the engines over them."""
    data = DataRoot(root=folder, profile="test")
    release = write_release(data)
    (release / "data").mkdir()
    twins = [
        {"pair_id": pair_id(concept, f"{letter} b", letter), "concept": concept,
         "category": concept.split(".")[0], "caption": f"{letter} b", "caption_safe": letter}
        for concept in CONCEPTS for letter in "xyz"
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(twins), release / "data" / "train-00000-of-00001.parquet")
    pipe = tiny_xl() if kind == "sdxl" else tiny_pipe("epsilon")
    pipe.save_pretrained(folder / "base", safe_serialization=True)
    base = BaseModel(model=str(folder / "base"), device="cpu")
    draw = torch.Generator().manual_seed(0)
    lora = {
        name: LoraLayer(
            torch.randn(2, module.in_features, generator=draw),
            torch.randn(module.out_features, 2, generator=draw),
        )
        for name, module in base.pipe.unet.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(LORA_TARGETS)
    }
    save_lora(lora, folder / "pytorch_lora_weights.safetensors")
    generator = DiffusersImageGenerator(
        model=str(folder / "base"), sampling=SAMPLING, device="cpu", threads=1
    )
    models = Models(
        adapters={"base": None, "merged": folder / "pytorch_lora_weights.safetensors"},
        generator=generator,
        base=base,
        scorers=[scorer or Scorer()],
        evaluation=EVALUATION,
    )
    return data, models


def rebuilt(folder: Path, scorer: Scorer) -> Models:
    """The engines over what :func:`build` wrote there."""
    generator = DiffusersImageGenerator(
        model=str(folder / "base"), sampling=SAMPLING, device="cpu", threads=1
    )
    return Models(
        adapters={"base": None, "merged": folder / "pytorch_lora_weights.safetensors"},
        generator=generator,
        base=BaseModel(model=str(folder / "base"), device="cpu"),
        scorers=[scorer],
        evaluation=EVALUATION,
    )


def cases_of(data: DataRoot) -> list[AttackedCase]:
    return from_table(AttackedCase, manifests.read(data.partition("robustness"), "cases"))


def killed_when_it_says(line: str, code: str, *given: Path) -> None:
    """Run code with paths in a process of its own, and kill it when it prints this line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path[:1]])}
    command = [sys.executable, "-c", code, *map(str, given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout
        assert child.stdout.readline() == f"{line}\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
