"""A release of noisy pairs, and an extractor of two plain features."""

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignguard_data.contracts.pixels import encode_png
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_train.cost_model.config import CostModelConfig

CONCEPTS = ("a.x", "a.y", "b.x", "b.y", "c.x", "c.y")
CONFIG = CostModelConfig(epochs=60, batch_size=16, learning_rate=1e-2, images_at_once=8)


class Brightness:
    """Mean and deviation of an image; counts what it reads in a file, for another process."""

    name = "brightness"
    version = "1"

    def __init__(self, log: Path | None = None, pause: float = 0.0) -> None:
        self._log, self._pause = log, pause

    def features(self, images):
        if self._log:
            with self._log.open("a") as handle:
                handle.write(f"{len(images)}\n")
                os.fsync(handle.fileno())
            time.sleep(self._pause)
        flat = images.reshape(len(images), -1).astype(np.float32) / 255
        return np.stack([flat.mean(axis=1), flat.std(axis=1)], axis=1)


def write_data(root: Path, *, pairs: int = 60, meaning: float = 1.0) -> DataRoot:
    """A data root with a release; ``meaning`` 1: unsafe images are dark, 0: nothing tells."""
    data = DataRoot(root=root, profile="test")
    folder = Path(str(data.releases / "coprov2-test-v0.1.0"))
    (folder / "data").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    rows = [_row(number, meaning) for number in range(pairs)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
    spec = PartitionSpec(
        folder=data.partition("release"), room="release", key="all", config={}, inputs={}
    )
    with open_partition(spec) as work:
        work.finish(
            tables={"pointer": pa.table({"release": [folder.name], "meaning": [meaning]})},
            counts={"path": folder.name},
        )
    return data


def _row(number: int, meaning: float) -> dict[str, object]:
    draw = np.random.default_rng(number)
    concept = CONCEPTS[number % len(CONCEPTS)]
    sides = []
    for level in (150 + 50 * meaning, 150 - 50 * meaning):
        noisy = level + draw.normal(0, 5) + draw.normal(0, 20, (8, 8, 3))
        sides.append(encode_png(noisy.clip(0, 255).astype(np.uint8)))
    return {
        "pair_id": f"{number:032x}",
        "concept": concept,
        "category": concept.split(".")[0],
        "caption": f"a ball number {number} with a mark",
        "caption_safe": f"a ball number {number}",
        "seed": number,
        "jpg_0": sides[0],
        "jpg_1": sides[1],
    }
