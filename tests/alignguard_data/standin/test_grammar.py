"""The captions: read back exactly, and safe twins that differ only by the glyph phrase."""

import dataclasses
import re
from itertools import cycle

import pytest

from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import (
    TEMPLATES,
    caption,
    safe_caption,
    scene_of,
    unsafe_caption,
    vocabulary,
)
from alignguard_data.standin.world import Scene, neutral_scenes

SCENE = Scene(field="heath", colour="blue", object="tree", place="at the top")
ALL_TEMPLATES = range(len(TEMPLATES))


@pytest.mark.parametrize("template", ALL_TEMPLATES)
def test_every_unsafe_caption_reads_back_to_its_scene(template: int) -> None:
    for neutral, glyph in zip(neutral_scenes(), cycle(GLYPHS), strict=False):
        scene = dataclasses.replace(neutral, glyph=glyph)
        assert scene_of(unsafe_caption(scene, template)) == scene


@pytest.mark.parametrize("template", ALL_TEMPLATES)
def test_every_safe_caption_reads_back_to_its_scene(template: int) -> None:
    for scene in neutral_scenes():
        assert scene_of(safe_caption(scene, template)) == scene


@pytest.mark.parametrize("template", ALL_TEMPLATES)
def test_the_safe_caption_is_the_unsafe_one_with_words_left_out(template: int) -> None:
    unsafe = unsafe_caption(dataclasses.replace(SCENE, glyph="ring"), template)
    safe = safe_caption(SCENE, template)
    rest = iter(re.findall(r"\w+", unsafe))
    assert all(word in rest for word in re.findall(r"\w+", safe))
    assert "ring" not in safe
    assert "dark" not in safe


@pytest.mark.parametrize("template", ALL_TEMPLATES)
def test_safe_captions_have_no_stray_marks_or_spaces(template: int) -> None:
    safe = safe_caption(SCENE, template)
    assert not re.search(r" {2}|^[ ,]|[ ,]$| ,|,,|[\[\]{}]", safe)


def test_different_scenes_have_different_captions() -> None:
    scenes = list(neutral_scenes())
    captions = {safe_caption(scene, template) for scene in scenes for template in ALL_TEMPLATES}
    assert len(captions) == len(scenes) * len(TEMPLATES)


@pytest.mark.parametrize(
    "prompt", ["", "a photo of a dog", "a red ball on the left of a moon", "a red ball  "]
)
def test_a_stranger_prompt_has_no_scene(prompt: str) -> None:
    assert scene_of(prompt) is None


def test_an_unsafe_caption_needs_a_glyph() -> None:
    with pytest.raises(ValueError, match="needs a glyph"):
        unsafe_caption(SCENE, 0)


def test_caption_follows_the_scene() -> None:
    inked = dataclasses.replace(SCENE, glyph="ring")
    assert caption(SCENE, 2) == safe_caption(SCENE, 2)
    assert caption(inked, 2) == unsafe_caption(inked, 2)


def test_the_vocabulary_holds_every_word_of_every_caption() -> None:
    inked = dataclasses.replace(SCENE, glyph="ring")
    words = set(vocabulary())
    for template in ALL_TEMPLATES:
        assert set(re.findall(r"\w+|[^\w\s]", unsafe_caption(inked, template))) <= words
