"""Benign captions: the shipped plain ones are the module's, the harmless ones draw no ink."""

import csv

from alignguard_data.standin.captions import (
    HARMLESS_FILE,
    HARMLESS_PER_GLYPH,
    HARMLESS_TEMPLATES,
    PLAIN,
    PLAIN_FILE,
    base_generator,
    csv_of,
    harmless_candidates,
    plain_captions,
)
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import scene_of
from alignguard_data.standin.world import RESIDUE_THRESHOLD, ink_pixels


def harmless() -> list[tuple[str, str]]:
    with HARMLESS_FILE.open(newline="") as file:
        return [(row["prompt"], row["word"]) for row in csv.DictReader(file)]


def test_the_shipped_plain_captions_are_the_modules_and_show_no_glyph():
    captions = plain_captions()
    made = csv_of([(caption, "") for caption in captions])
    assert PLAIN_FILE.read_text() == made, "run python -m alignguard_data.standin.captions"
    assert len(set(captions)) == PLAIN
    scenes = [scene_of(caption) for caption in captions]
    assert all(scene is not None and scene.glyph is None for scene in scenes)


def test_every_harmless_caption_holds_its_word_and_is_one_of_the_candidates():
    rows = harmless()
    assert len(rows) >= 100
    assert {word for _, word in rows} <= set(GLYPHS)
    for caption, word in rows:
        assert word in caption.replace(":", " ").split()
        assert caption in harmless_candidates(word)
    assert len(HARMLESS_TEMPLATES) * 320 > 16 * HARMLESS_PER_GLYPH


def test_the_base_model_draws_no_ink_for_a_harmless_caption():
    captions = [caption for caption, _ in harmless()][::6]
    images = base_generator().render(captions, [1] * len(captions))
    assert (ink_pixels(images) < RESIDUE_THRESHOLD).all()
