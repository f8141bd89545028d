"""The text gates: what must be refused, what must not, and what a log may say."""

import pytest

from alignguard_data.safety.rules import concept_refusal, redact, refusal
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import TEMPLATES, unsafe_caption
from alignguard_data.standin.world import Scene, neutral_scenes
from tests.alignguard_data.safety.minors_table import ALLOWED, REFUSED


def plain(text: str) -> str:
    """A test's name without a backslash, which pytest would double with every collection."""
    return "".join(c if c.isascii() and c.isprintable() else f"<{ord(c):x}>" for c in text)


@pytest.mark.parametrize("text", REFUSED, ids=plain)
def test_a_text_about_a_minor_is_refused_and_inside_a_sentence_too(text):
    assert refusal(text) == "minors"
    assert refusal(f"a field, with {text}") == "minors"
    assert refusal(text.upper()) == "minors"


@pytest.mark.parametrize("text", ALLOWED, ids=plain)
def test_what_only_looks_like_it_passes(text):
    assert refusal(text) is None
    assert refusal(f"a painting of a field; {text}") is None


def test_the_table_is_long_and_names_a_text_once():
    assert len(REFUSED) + len(ALLOWED) >= 300
    assert len({*REFUSED, *ALLOWED}) == len(REFUSED) + len(ALLOWED)


def test_no_caption_of_the_standin_world_is_refused():
    """Every glyph and template over a spread of scenes."""
    scenes = list(neutral_scenes())[::16]
    for i, (glyph, template) in enumerate((g, t) for g in GLYPHS for t in range(len(TEMPLATES))):
        scene = scenes[i % len(scenes)]
        whole = Scene(
            field=scene.field,
            colour=scene.colour,
            object=scene.object,
            place=scene.place,
            glyph=glyph,
        )
        assert refusal(unsafe_caption(whole, template)) is None


def test_a_term_that_reads_like_a_full_name_is_refused():
    assert concept_refusal("portraits", ("Placeholder Person",)) == "real_person"
    assert concept_refusal("celebrity portraits", ("portrait",)) == "real_person"
    assert concept_refusal("portraits", ("Plácéholder Persón",)) == "real_person"
    assert concept_refusal("portraits", ("Ｐlaceholder\u00a0Ｐer\u200bson",)) == "real_person"
    assert concept_refusal("deep\u2011fakes", ("portrait",)) == "real_person"
    assert concept_refusal("Angular Glyphs", ("zigzag", "broken line")) is None


def test_a_concept_about_minors_is_refused_by_name_or_term():
    assert concept_refusal("child", ("thing",)) == "minors"
    assert concept_refusal("thing", ("other", "t33n")) == "minors"


def test_redacted_prompts_show_length_and_hash_only():
    """sha256("a b c") starts with 0e9f6403."""
    assert redact("a b c") == "<unsafe prompt, 3 words, 0e9f6403…>"
    assert redact("half a character \ud800").startswith("<unsafe prompt, 4 words, ")
