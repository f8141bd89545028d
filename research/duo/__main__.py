"""Image-side pairs against prompt-side pairs; ``python -m research.duo --help``.

A line of the results is one arm, training seed and measure. Killed, the next call goes on with the
lines that are missing.
"""

import argparse
from pathlib import Path

import torch

from alignguard_data.storage.places import parse_root
from alignguard_train.contracts.adapter_names import BASE
from pipelines.resources import Engines
from research.duo.measure import ARMS, ATTACKS, IMAGE_SIDE, lines_of, profile_of
from research.duo.table import shown
from research.study.results import add, read


def main() -> None:
    """Measure what has no line yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", help="data root with a release of plain pairs; none: only print")
    parser.add_argument("--edited", help="data root with a release of edited pairs")
    parser.add_argument("--work", type=Path, default=Path("data/duo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--lines", type=Path, default=Path("docs/duo/results.jsonl"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.work.mkdir(parents=True, exist_ok=True)
    for seed in chosen.seeds if chosen.plain else ():
        plain = Engines(profile_of(BASE), parse_root(chosen.plain))
        for arm in chosen.arms:
            edited = arm == IMAGE_SIDE
            engines = Engines(profile_of(arm), parse_root(chosen.edited)) if edited else plain
            known = read(chosen.lines)
            for measure, line in lines_of(engines, plain, arm, seed, chosen.work):
                key = f"{arm}, seed {seed}, {measure}"
                if key not in known and (measure in chosen.attacks or measure == "drawn"):
                    add({"key": key, **line()}, chosen.lines)
    print(shown(list(read(chosen.lines).values())))


if __name__ == "__main__":
    main()
