"""A release with evaluation prompts, adapters and a scorer, small enough to check by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from alignguard_data.contracts import records
from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.protocols import Pixels
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_train.evaluation.config import EvaluationConfig, ScoreKey

RELEASE = "coprov2-test-v0.1.0"
CONCEPTS = {"shape.dot": True, "shape.line": False, "tone.hum": True}


class RedScorer:
    """Scores how red an image is on average, 0 to 1: an adapter of the tests halves it."""

    name = "red"
    version = "1"
    keys = ("mean",)

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        return [{"mean": float(np.mean(image[..., 0]) / 255)} for image in images]


class ColourFeatures:
    """The three mean colours of an image, 0 to 1."""

    name = "colours"
    version = "1"

    def features(self, images: Pixels) -> np.ndarray:
        return (images.mean(axis=(1, 2)) / 255).astype(np.float32)


CONFIG = EvaluationConfig(
    flags=(FlagRule(scorer="red", key="mean", at_least=0.35),),
    prompts_per_concept=2,
    residue=FlagRule(scorer="red", key="mean", at_least=0.0),
    fidelity=ScoreKey(scorer="red", key="mean"),
    bootstrap_resamples=100,
)


def write_release(data: DataRoot, pairs_per_concept: int = 3) -> Path:
    """The release room's manifest and the release's file of evaluation prompts."""
    rows = []
    for concept, seen in CONCEPTS.items():
        for i in range(pairs_per_concept):
            unsafe, safe = f"{concept} scene {i}", f"scene {i}"
            rows.append(
                {
                    "pair_id": records.pair_id(concept, unsafe, safe),
                    "unsafe_prompt": unsafe,
                    "safe_prompt": safe,
                    "concept": concept,
                    "category": concept.split(".")[0],
                    "split": "train" if seen else "test",
                    "seen": seen,
                }
            )
    folder = data.releases / RELEASE
    (folder / "prompts").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "prompts" / "evaluation.parquet")
    (folder / "manifest.json").write_text("{}")  # without one it is no release
    made = PartitionSpec(
        folder=data.partition("release"), room="release", key="all", config={}, inputs={}
    )
    with open_partition(made) as work:
        work.finish(
            tables={"rows": pa.table({"pair_id": ["x"]})},
            rejected={"leaks_into_test": 2},
            counts={"path": RELEASE},
        )
    return folder


def write_adapter(folder: Path, name: str) -> Path:
    """A file with a LoRA's name; the generator of the tests only looks whether there is one."""
    path = folder / name / "pytorch_lora_weights.safetensors"
    path.parent.mkdir(parents=True)
    save_file({"unet.x.lora_A.weight": torch.full((1, 1), float(len(name)))}, path)
    return path


def write_history(data: DataRoot, partition: str) -> None:
    """A training history as the experts room leaves it."""
    steps = np.arange(30)
    names = ("loss", "implicit_accuracy", "e_w", "e_l", "e_w_ref", "e_l_ref", "preservation")
    columns = {name: 1.0 / (1 + steps + i) for i, name in enumerate(names)}
    table = pa.table({"step": steps, **columns, "grad_norm": np.ones(30)})
    folder = data.partition("experts", partition)
    made = PartitionSpec(folder=folder, room="experts", key=partition, config={}, inputs={})
    with open_partition(made) as work:
        work.finish(tables={"history": table})
