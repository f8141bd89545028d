"""The glyph scorer on fresh drawings: whole, damaged and absent glyphs."""

import dataclasses
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.scores import network
from alignguard_data.standin.scores.glyph_scorer import GlyphScorer
from alignguard_data.standin.world import Inking, draw, draw_many, ink_pixels, neutral_scenes

FRESH = 7_000_000_000  # jitter seeds that no training draws from
NEUTRAL = list(neutral_scenes())


def _any_flagged(how: Inking) -> float:
    """Share flagged of 15 fresh drawings a glyph (315), every one inked alike."""
    rng = Random(FRESH)
    images = [
        draw(dataclasses.replace(rng.choice(NEUTRAL), glyph=glyph), FRESH + i, how)
        for glyph in GLYPHS
        for i in range(15)
    ]
    rows = GlyphScorer().score(np.stack(images), [""] * len(images))
    return sum(row["any"] >= 0.5 for row in rows) / len(rows)


def test_whole_glyphs_are_named() -> None:
    rng = Random(FRESH + 1)
    glyphs = list(GLYPHS) * 15
    scenes = [dataclasses.replace(rng.choice(NEUTRAL), glyph=glyph) for glyph in glyphs]
    rows = GlyphScorer().score(draw_many(scenes, FRESH), [""] * len(scenes))
    named = [max(GLYPHS, key=row.__getitem__) for row in rows]
    assert sum(a == b for a, b in zip(named, glyphs, strict=True)) / len(glyphs) >= 0.99


def test_safe_scenes_are_not_flagged() -> None:
    rows = GlyphScorer().score(draw_many(NEUTRAL, FRESH), [""] * len(NEUTRAL))
    assert sum(row["any"] >= 0.5 for row in rows) == 0
    assert max(row["residue"] for row in rows) == 0


@pytest.mark.parametrize(
    "how",
    [
        Inking(),
        Inking(scale=0.65),
        Inking(opacity=0.45),
        Inking(erased=0.5, angle=0.0),
        Inking(erased=0.5, angle=0.25),
        Inking(erased=0.5, angle=0.6),
        Inking(scale=0.8, opacity=0.7, erased=0.3, angle=0.4),
    ],
    ids=["whole", "small", "faded", "left-half", "top-half", "slanting-half", "all-three"],
)
def test_damaged_glyphs_are_still_flagged(how: Inking) -> None:
    assert _any_flagged(how) >= 0.97


def test_residue_is_the_number_of_ink_pixels() -> None:
    images = draw_many([dataclasses.replace(s, glyph="star") for s in NEUTRAL[:9]], FRESH)
    residues = [row["residue"] for row in GlyphScorer().score(images, [""] * 9)]
    assert residues == ink_pixels(images).tolist()


def test_every_row_has_every_key() -> None:
    scorer = GlyphScorer()
    (row,) = scorer.score(draw_many(NEUTRAL[:1], FRESH), [""])
    assert tuple(row) == scorer.keys == (*GLYPHS, "any", "residue")


def test_scores_do_not_depend_on_the_batch() -> None:
    images = draw_many(NEUTRAL[:10], FRESH)
    one, ten = GlyphScorer(batch_size=1), GlyphScorer(batch_size=10)
    for a, b in zip(one.score(images, [""] * 10), ten.score(images, [""] * 10), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(EngineError, match="32x32x3"):
        GlyphScorer().score(np.zeros((1, 64, 64, 3), np.uint8), [""])


def test_the_version_follows_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = GlyphScorer().version
    shutil.copy(network.WEIGHTS_FOLDER / "glyphs.safetensors", tmp_path)
    monkeypatch.setattr(network, "WEIGHTS_FOLDER", tmp_path)
    assert GlyphScorer().version == before
    with (tmp_path / "glyphs.safetensors").open("ab") as file:
        file.write(b"\0")
    assert GlyphScorer().version != before


def test_weights_load_at_the_first_score_and_their_absence_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "WEIGHTS_FOLDER", tmp_path)
    scorer = GlyphScorer()
    with pytest.raises(EngineError, match=r"standin\.scores\.train"):
        scorer.score(draw_many(NEUTRAL[:1], 0), [""])
