"""Evaluations with pictures of true size and random pixels, in a process whose memory is read.

    python -m tests.alignguard_train.evaluation.memory_probe <folder> <pairs a concept> ...

prints how many images each evaluation had and the most memory resident by its end, in bytes.
"""

import dataclasses
import sys
from pathlib import Path

from alignguard_data.contracts.sampling import Sampling
from alignguard_data.storage.paths import DataRoot
from alignguard_train.evaluation.room import evaluate_all
from benchmarks.peak import peak_bytes
from tests.alignguard_data.images.drawn_images import DrawnImages
from tests.alignguard_train.evaluation.world import (
    CONFIG,
    ColourFeatures,
    RedScorer,
    write_adapter,
    write_release,
)


class LargeImages(DrawnImages):
    """Random pixels of 512 x 512: a PNG of 786 KB that nothing compresses."""

    def __init__(self) -> None:
        super().__init__()
        self.sampling = Sampling(num_inference_steps=2, width=512, height=512, batch_size=6)


def main(folder: Path, pairs: int) -> None:
    """Evaluate the base model and one adapter on so many pairs a concept."""
    data = DataRoot(root=folder / str(pairs), profile="test")
    write_release(data, pairs_per_concept=pairs)
    adapters = {"merged": write_adapter(data.root / "adapters", "merged")}
    config = dataclasses.replace(CONFIG, prompts_per_concept=pairs)
    made = evaluate_all(
        data, adapters, LargeImages(), [RedScorer()], config, extractor=ColourFeatures()
    )
    sys.stdout.write(f"{made.rows} {peak_bytes()}\n")


if __name__ == "__main__":
    for number in sys.argv[2:]:
        main(Path(sys.argv[1]), int(number))
