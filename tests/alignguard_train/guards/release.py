"""A release of texts without images, benign files and a small configuration."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alignguard_data.contracts.records import Concept
from alignguard_data.standin.factory import base_model_folder
from alignguard_data.standin.grammar import safe_caption, unsafe_caption
from alignguard_data.standin.world import neutral_scenes
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_train.base import BaseModel
from alignguard_train.guards.config import BenignSet, GuardsConfig

RELEASE = "coprov2-test-v0.1.0"
TRAIN, HELD = ("zigzag", "bolt", "star", "ring"), ("hook", "window")


def concept(slug: str, split: str) -> Concept:
    return Concept(key=f"a.{slug}", category="a", name=slug, split=split, terms=(slug, f"{slug}er"))


CONCEPTS = [*(concept(one, "train") for one in TRAIN), *(concept(one, "test") for one in HELD)]
BASE = BaseModel(model=str(base_model_folder()), device="cpu")


def pairs_of(slugs: tuple[str, ...], first: int, each: int) -> list[dict[str, object]]:
    """Texts and ids only: a guard must need no image."""
    scenes = list(neutral_scenes())
    rows = []
    for slug in slugs:
        for _ in range(each):
            number = first + len(rows)
            scene = dataclasses.replace(scenes[number % len(scenes)], glyph=slug)
            rows.append({
                "pair_id": f"{number:032x}", "concept": f"a.{slug}",
                "caption": unsafe_caption(scene, number % 10),
                "caption_safe": safe_caption(scene, number % 10),
            })  # fmt: skip
    return rows


def write_release(tmp_path: Path) -> DataRoot:
    data = DataRoot(root=tmp_path / "data", profile="tiny")
    folder = data.releases / RELEASE
    for name in ("data", "prompts"):
        (folder / name).mkdir(parents=True)
    train, test = pairs_of(TRAIN, 0, 12), pairs_of(HELD, 100, 5)
    pq.write_table(pa.Table.from_pylist(train), folder / "data/train-00000-of-00001.parquet")
    pq.write_table(pa.Table.from_pylist(test), folder / "data/test-00000-of-00001.parquet")
    reserved = [
        {
            "pair_id": row["pair_id"], "concept": row["concept"], "seen": True,
            "unsafe_prompt": row["caption"], "safe_prompt": row["caption_safe"],
        }
        for row in pairs_of(TRAIN, 200, 4)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(reserved), folder / "prompts/evaluation.parquet")
    (folder / "manifest.json").write_text("{}")
    made = PartitionSpec(
        folder=data.partition("release"), room="release", key="all", config={}, inputs={}
    )
    with open_partition(made) as work:
        work.finish(tables={"rows": pa.table({"seed": [0]})}, counts={"path": RELEASE})
    return data


def small_config(tmp_path: Path) -> GuardsConfig:
    captions = [safe_caption(scene, 7) for scene in list(neutral_scenes())[:120]]
    (tmp_path / "plain.txt").write_text("\n".join(captions))
    (tmp_path / "words.txt").write_text("star: a red ball on the left of a meadow")
    return GuardsConfig(
        benign=(
            BenignSet(name="plain", path=str(tmp_path / "plain.txt")),
            BenignSet(name="words", path=str(tmp_path / "words.txt"), kind="harmless"),
        ),
        target_fpr=0.05, adversarial=0, resamples=100,
        params={
            "latent-guard": {"heads": 2, "head_width": 8, "out_width": 8, "steps": 40},
            "safeguider": {"widths": (8,), "epochs": 4},
            "guardt2i": {"layers": 1, "width": 16, "heads": 2, "steps": 8, "batch_size": 8},
            "rewriter": {
                "layers": 1, "width": 16, "heads": 2, "start_steps": 4, "steps": 8,
                "candidates": 2, "longest": 8,
            },
        },
    )  # fmt: skip
