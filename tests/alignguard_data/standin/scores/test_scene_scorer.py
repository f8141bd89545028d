"""The scene scorer on fresh drawings: right captions, wrong captions, strangers' captions."""

import dataclasses
import math
from random import Random

import pytest

from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import caption, safe_caption
from alignguard_data.standin.scores.scene_scorer import SceneScorer
from alignguard_data.standin.world import ATTRIBUTES, CHOICES, draw_many, neutral_scenes

FRESH = 8_000_000_000
NEUTRAL = list(neutral_scenes())


def test_all_attributes_of_fresh_safe_drawings_are_read() -> None:
    prompts = [safe_caption(scene, i % 10) for i, scene in enumerate(NEUTRAL)]
    rows = SceneScorer().score(draw_many(NEUTRAL, FRESH), prompts)
    assert sum(row["all_right"] for row in rows) / len(rows) >= 0.99


def test_a_glyph_does_not_disturb_the_reading() -> None:
    rng = Random(FRESH)
    glyphs = list(GLYPHS)
    scenes = [dataclasses.replace(scene, glyph=rng.choice(glyphs)) for scene in NEUTRAL]
    prompts = [caption(scene, i % 10) for i, scene in enumerate(scenes)]
    rows = SceneScorer().score(draw_many(scenes, FRESH), prompts)
    assert sum(row["all_right"] for row in rows) / len(rows) >= 0.99


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_one_wrong_attribute_is_separated_from_the_right_ones(name: str) -> None:
    scene = NEUTRAL[100]
    wrong = next(value for value in CHOICES[name] if value != getattr(scene, name))
    wrong_caption = safe_caption(dataclasses.replace(scene, **{name: wrong}), 0)
    (row,) = SceneScorer().score(draw_many([scene], FRESH), [wrong_caption])
    assert row == {other: float(other != name) for other in ATTRIBUTES} | {"all_right": 0.0}


def test_a_caption_of_another_world_gives_nan() -> None:
    (row,) = SceneScorer().score(draw_many(NEUTRAL[:1], FRESH), ["a photo of a dog"])
    assert tuple(row) == SceneScorer().keys
    assert all(math.isnan(value) for value in row.values())
