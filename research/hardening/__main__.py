"""Hardens weak adapters of several training seeds; ``python -m research.hardening --help``.

A line of ``docs/hardening/results.jsonl`` is one training seed and arm: every adapter's verdicts by
attack, and its evaluation. A seed's arms are measured one after another, and docs/hardening.md is
drawn after each line. Killed, the next call goes on where it stopped.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from research.hardening import page
from research.hardening.control import CONTROL, measure_control
from research.hardening.measure import HARDENING, key_of, measure
from research.hardening.peer import PEER_ARM, measure_peer
from research.study.results import add, read

RESULTS = Path(__file__).parents[2] / "docs" / "hardening" / "results.jsonl"
ARMS = (HARDENING, CONTROL, PEER_ARM)


def main() -> None:
    """Measure the arms and seeds that have no line yet, then draw docs/hardening.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="folder of the seeds' data; none: only draw")
    parser.add_argument("--dataset", type=Path, help="data root with a release to start from")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--lines", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for seed in chosen.seeds if chosen.root else ():
        for arm in chosen.arms:
            if key_of(seed, arm) not in read(chosen.lines):
                add(_line(chosen.root, chosen.dataset, seed, arm), chosen.lines)
                page.draw(read(chosen.lines))
    page.draw(read(chosen.lines))


def _line(root: Path, dataset: Path | None, seed: int, arm: str) -> dict[str, Any]:
    if arm == HARDENING:
        return measure(root, dataset, seed)
    return measure_control(root, seed) if arm == CONTROL else measure_peer(root, seed)


if __name__ == "__main__":
    main()
