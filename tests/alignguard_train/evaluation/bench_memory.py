"""The peers' bench and the IP while training, with pictures of true size, in a process whose memory
is read.

    python -m tests.alignguard_train.evaluation.bench_memory <bench|held_out> <folder> <pairs> ...

prints how many images each had and the most memory resident by its end, in bytes.
"""

import dataclasses
import sys
from pathlib import Path

from alignguard_data.storage.paths import DataRoot
from alignguard_train.evaluation.judge import read_rows
from alignguard_train.evaluation.watch import HeldOutIP
from benchmarks.peak import peak_bytes
from research.bench import Contender, bench
from tests.alignguard_train.evaluation.memory_probe import LargeImages
from tests.alignguard_train.evaluation.world import (
    CONCEPTS,
    CONFIG,
    ColourFeatures,
    RedScorer,
    write_adapter,
    write_release,
)


def main(what: str, folder: Path, pairs: int) -> None:
    """Measure once on so many pairs a concept."""
    data = DataRoot(root=folder / str(pairs), profile="test")
    release = write_release(data, pairs_per_concept=pairs)
    config = dataclasses.replace(CONFIG, prompts_per_concept=pairs)
    generator = LargeImages()
    if what == "bench":
        one = Contender(name="one", adapter=write_adapter(data.root / "adapters", "one"))
        rows = read_rows(release, pairs)
        list(
            bench(
                [one], generator, rows, (), [RedScorer()], config, ColourFeatures(), timed_calls=0
            )
        )
    else:
        categories = sorted({concept.split(".")[0] for concept in CONCEPTS})
        measure = HeldOutIP(
            data=data,
            categories=categories,
            generator=generator,
            scorers=[RedScorer()],
            config=config,
        )
        measure({})
    sys.stdout.write(f"{len(generator.rendered)} {peak_bytes()}\n")


if __name__ == "__main__":
    for number in sys.argv[3:]:
        main(sys.argv[1], Path(sys.argv[2]), int(number))
