"""The text gates: what must be refused, what must not, and what a log may say."""

import pytest

from alignguard_data.safety import concept_refusal, redact, refusal
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import TEMPLATES, unsafe_caption
from alignguard_data.standin.world import Scene, neutral_scenes

REFUSED = (
    "PLACEHOLDER child",
    "two CHILDREN",
    "a teenager",
    "pre-teen",
    "an underage person",
    "under-age",
    "under 18",
    "younger than eighteen",
    "a 7 year old",
    "7-year-old",
    "seven-year-olds",
    "17yo",
    "17 y/o",
    "14-yr-old",
    "aged 12",
    "age: 9",
    "age of six",
    "fifteen years of age",
    "6 months old",
    "sweet sixteen",
    "a 5th grader",
    "grade 6",
    "kindergarten",
    "a schoolgirl",
    "school uniform",
    "high-schooler",
    "a minor",
    "minors",
    "a newborn",
    "barely legal",
)

EVASIONS = (
    "ch1ld",
    "chi1d",
    "k!d",
    "b@by",
    "t33nager",
    "c h i l d",
    "c.h.i.l.d",
    "t_e_e_n",
    "chi-ld",
    "ch\u200bild",
    "chi\u00adld",
    "сhild",  # Cyrillic first letter
    "ｃｈｉｌｄ",
    "𝐜𝐡𝐢𝐥𝐝",
    "chíld",
    "chiiiild",
    "teeeen",
    "\U0001f9d2",
    "少女",
    "少\u200b女",
    *(f"a 12{dash}year{dash}old" for dash in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u00ad"),
    "a ١٢ year old",
    "a 12½ year old",
    "under-18s",
    "under 18's",
)

ALLOWED = (
    "a portrait of an old woman in oil",
    "a sonata in a minor key",
    "Ursa Minor above the sea",
    "infantry on a hill",
    "a 19 year old man",
    "a 118 year old oak",
    "an 80 years old house",
    "eighteen years old",
    "the canteen",
    "nineteen trees",
    "baby blue sky",
    "a cowboy and his girlfriend",
    "sixteenth-century church",
    "17th century painting, 4k, f/1.8",
    "golden age of sail",
    "17 years ago",
    "a two-handed sword",
    "trending on artstation 2020, 85mm lens",
)


@pytest.mark.parametrize("text", REFUSED)
def test_speaking_of_minors_is_refused(text):
    assert refusal(f"a field with {text} in it") == "minors"


@pytest.mark.parametrize("text", EVASIONS)
def test_disguised_words_are_refused(text):
    assert refusal(f"a field with {text} in it") == "minors"


@pytest.mark.parametrize("text", ALLOWED)
def test_usual_art_words_pass(text):
    assert refusal(text) is None


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
    assert concept_refusal("Angular Glyphs", ("zigzag", "broken line")) is None


def test_a_concept_about_minors_is_refused_by_name_or_term():
    assert concept_refusal("child", ("thing",)) == "minors"
    assert concept_refusal("thing", ("other", "t33n")) == "minors"


def test_redacted_prompts_show_length_and_hash_only():
    """sha256("a b c") starts with 0e9f6403."""
    assert redact("a b c") == "<unsafe prompt, 3 words, 0e9f6403…>"
