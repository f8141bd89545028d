"""Image-side pairs against prompt-side pairs; ``python -m research.duo --help``.

A line of the results is one arm, training seed and measure; the page beside the folder of the lines
is drawn after each. Killed, the next call goes on with the lines that are missing.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from alignguard_data.storage.places import parse_root
from alignguard_train.contracts.adapter_names import BASE
from pipelines.resources import Engines
from research.duo import page
from research.duo.measure import ARMS, EDITED, MEASURES, key_of, lines_of, profile_of
from research.study.results import add, read

RESULTS = Path(__file__).parents[2] / "docs" / "duo" / "results.jsonl"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what has no line yet, one seed after another, then draw the page.

    Args:
        arguments: of the command; None takes those that it was called with.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", help="data root with a release of plain pairs; none: only draw")
    parser.add_argument("--edited", help="data root with a release of edited pairs")
    parser.add_argument("--work", type=Path, default=Path("data/duo"), help="folder of adapters")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--lines", type=Path, default=RESULTS, help="file of the lines")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if chosen.plain:
        if not chosen.edited and set(EDITED) & set(chosen.arms):
            parser.error("--edited is missing: the arms on the image side train on edited pairs")
        _measure(chosen)
    page.draw(read(chosen.lines), chosen.lines)


def _measure(chosen: argparse.Namespace) -> None:
    """Every chosen line that is missing; a seed without one loads and trains nothing."""
    chosen.work.mkdir(parents=True, exist_ok=True)
    plain = Engines(profile_of(BASE), parse_root(chosen.plain))
    for seed in chosen.seeds:
        for arm in chosen.arms:
            open_ones = [
                measure
                for measure in chosen.measures
                if key_of(arm, seed, measure) not in read(chosen.lines)
            ]
            if not open_ones:
                continue
            engines = (
                Engines(profile_of(arm), parse_root(chosen.edited)) if arm in EDITED else plain
            )
            for measure, line in lines_of(engines, plain, arm, seed, chosen.work):
                if measure in open_ones:
                    add({"key": key_of(arm, seed, measure), **line()}, chosen.lines)
                    page.draw(read(chosen.lines), chosen.lines)


if __name__ == "__main__":
    main()
