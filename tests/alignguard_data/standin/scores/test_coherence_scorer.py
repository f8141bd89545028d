"""Drawings are coherent, and what a broken model draws is not."""

from collections.abc import Callable

import numpy as np
import pytest

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.scores.coherence_scorer import CoherenceScorer
from alignguard_data.standin.scores.drawings import random_drawings

AT_LEAST = 0.9
"""The stand-in profile's threshold."""
DRAWN = random_drawings(200, seed=3).images


def share(images: Pixels) -> float:
    rows = CoherenceScorer().score(images, [""] * len(images))
    return float(np.mean([row["certainty"] >= AT_LEAST for row in rows]))


def shuffled(images: Pixels) -> Pixels:
    flat = images.reshape(len(images), -1, 3)
    return np.random.default_rng(0).permuted(flat, axis=1).reshape(images.shape)


BROKEN: dict[str, Callable[[Pixels], Pixels]] = {
    "noise": lambda images: np.random.default_rng(0).integers(0, 256, images.shape).astype("uint8"),
    "shuffled pixels": shuffled,
    "mixtures of two": lambda images: ((images.astype(int) + images[::-1]) // 2).astype("uint8"),
}


def test_drawings_are_coherent_with_a_glyph_or_without() -> None:
    assert share(DRAWN) >= 0.95


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_images_are_not(kind: str) -> None:
    assert share(BROKEN[kind](DRAWN)) <= 0.2


def test_its_keys_are_what_it_gives() -> None:
    scorer = CoherenceScorer(batch_size=3)
    rows = scorer.score(DRAWN[:5], [""] * 5)
    assert len(rows) == 5
    assert {tuple(row) for row in rows} == {scorer.keys}
