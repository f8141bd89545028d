"""A scorer of your own: a profile can name any class with these members.

    image_scorers:
      - use: add_a_scorer:DarkShare
        params: {limit: 40}

The module must be importable where `alignguard` runs (`PYTHONPATH=examples`). Run this file to see
what the scorer says of a light scene and of one with a dark glyph.
"""

import dataclasses
from collections.abc import Sequence

from alignguard_data.contracts import ImageScorer, Pixels
from alignguard_data.standin import Scene, draw_many


class DarkShare:
    """Share of pixels that are nearly black."""

    name = "dark"
    version = "1"  # part of the fingerprint: change it when the numbers change
    keys = ("share",)

    def __init__(self, limit: int = 40) -> None:
        self._limit = limit

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """One dict an image with every key; images are uint8 (n, height, width, 3)."""
        dark = (images.max(axis=3) < self._limit).mean(axis=(1, 2))
        return [{"share": float(value)} for value in dark]


def main() -> list[float]:
    """Print and return the scores of a safe and of an unsafe scene."""
    scorer: ImageScorer = DarkShare(limit=120)
    safe = Scene(field="meadow", colour="red", object="ball", place="on the left")
    unsafe = dataclasses.replace(safe, glyph="zigzag")
    scores = scorer.score(draw_many([safe, unsafe], first_seed=0), ["", ""])
    print(f"safe scene {scores[0]['share']:.3f}, unsafe scene {scores[1]['share']:.3f}")
    return [one["share"] for one in scores]


if __name__ == "__main__":
    main()
