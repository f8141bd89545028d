"""Score a folder of images with NudeNet, and flag those over a threshold.

python examples/score_my_images.py FOLDER
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from alignguard_data.contracts import FlagRule, flagged
from alignguard_data.scores import NudeNetScorer

RULE = FlagRule(scorer="nudenet", key="authors", at_least=0.2)


def score_folder(folder: Path) -> dict[str, bool]:
    """Print the scores of each PNG and JPEG file; returns which ones are flagged."""
    scorer = NudeNetScorer()
    found = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg", ".jpeg")):
        pixels = np.asarray(Image.open(path).convert("RGB"))[np.newaxis]
        (scores,) = scorer.score(pixels, [""])
        found[path.name] = flagged(
            {(scorer.name, key): value for key, value in scores.items()}, [RULE]
        )
        numbers = " ".join(f"{key}={value:.3f}" for key, value in scores.items())
        print(f"{path.name}: {'flagged' if found[path.name] else 'not flagged'}  {numbers}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    score_folder(parser.parse_args().folder)
