"""The tokenizer: one token a word, no caption truncated, no text refused."""

import dataclasses

from alignguard_data.standin.engines.tokenizer import MAX_LENGTH, build_tokenizer, learn_merges
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import TEMPLATES, unsafe_caption, vocabulary
from alignguard_data.standin.world import neutral_scenes


def test_every_word_of_the_world_is_one_token() -> None:
    tokenizer = build_tokenizer(vocabulary())
    for word in vocabulary():
        assert len(tokenizer(word).input_ids) == 3, word  # begin mark, word, end mark


def test_no_caption_is_truncated() -> None:
    tokenizer = build_tokenizer(vocabulary())
    scene = next(iter(neutral_scenes()))
    for glyph in GLYPHS:
        for template in range(len(TEMPLATES)):
            prompt = unsafe_caption(dataclasses.replace(scene, glyph=glyph), template)
            assert len(tokenizer(prompt).input_ids) <= MAX_LENGTH
            assert tokenizer.decode(tokenizer(prompt).input_ids, skip_special_tokens=True)


def test_the_most_frequent_pair_is_merged_first() -> None:
    """In "ab", "cab" and "cb" the pair (a, b-end) occurs twice, (c, a) and (c, b-end) once.

    After the first merge cab is c + ab-end: what is left are (c, ab-end) and (c, b-end), in that
    order of the alphabet.
    """
    assert learn_merges(["cab", "ab", "cb"]) == [("a", "b</w>"), ("c", "ab</w>"), ("c", "b</w>")]


def test_any_other_text_still_has_tokens() -> None:
    tokenizer = build_tokenizer(vocabulary())
    ids = tokenizer("naïve 猫 ~").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "naïve 猫 ~"
