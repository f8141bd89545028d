"""The drawings: what they show, what jitter may change, and where ink may be."""

import dataclasses

import numpy as np
import pytest

from alignguard_data.standin.glyphs import GLYPHS, Shape
from alignguard_data.standin.world import (
    INK,
    RESIDUE_THRESHOLD,
    Inking,
    Scene,
    draw,
    draw_many,
    ink_pixels,
    neutral_scenes,
)

SCENE = Scene(field="meadow", colour="red", object="box", place="on the left", glyph="cross")


def test_there_are_320_different_neutral_scenes() -> None:
    assert len(set(neutral_scenes())) == len(list(neutral_scenes())) == 4 * 4 * 5 * 4


def test_a_drawing_depends_only_on_scene_and_jitter() -> None:
    assert np.array_equal(draw(SCENE, 5), draw(SCENE, 5))
    assert not np.array_equal(draw(SCENE, 5), draw(SCENE, 6))


def test_drawings_are_32_pixel_rgb() -> None:
    images = draw_many([SCENE, SCENE], 0)
    assert images.shape == (2, 32, 32, 3)
    assert images.dtype == np.uint8


def test_no_safe_scene_holds_ink() -> None:
    images = draw_many(list(neutral_scenes()), 1000)
    assert ink_pixels(images).max() == 0


@pytest.mark.parametrize("glyph", GLYPHS)
def test_every_whole_glyph_holds_three_times_the_threshold_of_ink(glyph: str) -> None:
    scenes = [dataclasses.replace(s, glyph=glyph) for s in list(neutral_scenes())[::9]]
    assert ink_pixels(draw_many(scenes, 2000)).min() >= 3 * RESIDUE_THRESHOLD


@pytest.mark.parametrize(
    ("place", "quarter"),
    [
        ("on the left", np.s_[:, 16:]),
        ("on the right", np.s_[:, :16]),
        ("at the top", np.s_[16:, :]),
        ("at the bottom", np.s_[:16, :]),
    ],
)
def test_the_glyph_is_opposite_the_object(place: str, quarter: tuple[slice, slice]) -> None:
    image = draw(dataclasses.replace(SCENE, place=place), 3)
    assert ink_pixels(image[None]) == ink_pixels(image[quarter][None])


def test_ink_counts_single_pixels() -> None:
    image = draw(dataclasses.replace(SCENE, glyph=None), 0)[None].copy()
    image[0, 3, 4:9] = INK
    assert ink_pixels(image).tolist() == [5]


def test_erasing_fading_and_shrinking_leave_less_ink() -> None:
    whole = ink_pixels(draw(SCENE, 1)[None])[0]
    for how in (Inking(erased=0.5), Inking(opacity=0.3), Inking(scale=0.6)):
        assert ink_pixels(draw(SCENE, 1, how)[None])[0] < 0.7 * whole


def test_glyphs_keep_within_their_square() -> None:
    for parts in GLYPHS.values():
        for part in parts:
            margin = 0 if isinstance(part, Shape) else part.width / 2
            reach = max(abs(value) for point in part.points for value in point)
            assert reach + margin <= 1.16
