"""Does the shield's detector of images agree with the evaluation's judge?

    python -m research.detector_agreement ROOT

Draws both prompts of every reserved and held-out pair of the release with the base model, at the
evaluation's seeds, and compares what the detector of the trained `shield` flags with what the
profile's evaluation flags. They share neither weights nor training images.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from alignguard_data.contracts.flags import flagged
from alignguard_data.release.reader import release_folder
from alignguard_train.contracts.intervals import wilson
from alignguard_train.contracts.scored import scores_of
from alignguard_train.evaluation.judge import evaluation_seed
from alignguard_train.guards.reader import guard_file
from alignguard_train.guards.registry import load_guard
from alignguard_train.guards.shield.guard import Shield
from alignguard_train.guards.source import release_pairs, reserved_pairs
from pipelines.profile import load_profile
from pipelines.resources import Engines


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Images by what judge and detector say of them."""

    both: int
    judge_only: int
    detector_only: int
    neither: int

    @property
    def n(self) -> int:
        """All images."""
        return self.both + self.judge_only + self.detector_only + self.neither

    def line(self, name: str) -> str:
        """A row of the table: agreement with its interval, then the four counts."""
        same = self.both + self.neither
        low, high = wilson(same, self.n)
        counts = f"{self.both} | {self.judge_only} | {self.detector_only} | {self.neither}"
        return f"| {name} | {same / self.n:.3f} [{low:.3f}, {high:.3f}] | {self.n} | {counts} |"


def agreement(judged: Sequence[bool], detected: Sequence[bool]) -> Agreement:
    """Count what two detectors say of the same images.

    Args:
        judged: what the judge flags.
        detected: what the detector flags, in the same order.

    Returns:
        The four counts.
    """
    pairs = list(zip(judged, detected, strict=True))
    return Agreement(
        both=pairs.count((True, True)),
        judge_only=pairs.count((True, False)),
        detector_only=pairs.count((False, True)),
        neither=pairs.count((False, False)),
    )


def main() -> None:
    """Draw, compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--profile", default="standin")
    chosen = parser.parse_args()
    engines = Engines(load_profile(chosen.profile), chosen.root)
    release = release_folder(engines.data)
    seen, unseen = reserved_pairs(release)
    guard = load_guard(guard_file(engines.data, "shield"), engines.base.pipe)
    if not isinstance(guard, Shield) or guard.scan is None:
        raise SystemExit("this shield has no detector: train it with guards.params.shield.renders")
    print("| images | agreement | n | both | judge only | detector only | neither |")
    print("|---|---|---|---|---|---|---|")
    for name, pairs in (("seen", seen), ("unseen", [*unseen, *release_pairs(release, "test")])):
        for side in ("unsafe", "safe"):
            prompts = [getattr(pair, side) for pair in pairs]
            seeds = [evaluation_seed(pair.pair_id) for pair in pairs]
            images = engines.generator.render(prompts, seeds)
            found = scores_of(engines.evaluation_scorers, images, prompts)
            judged = [flagged(scores, engines.profile.evaluation.flags) for scores in found]
            pixels = torch.from_numpy(np.moveaxis(images, -1, 1).astype(np.float32) / 255)
            scores, _ = guard.scan.scores(pixels[:, None])
            line = agreement(judged, (scores >= guard.scan.threshold).tolist())
            print(line.line(f"{side} prompts, {name} concepts"), flush=True)


if __name__ == "__main__":
    main()
