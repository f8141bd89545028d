"""The language test of the gate, on captions as short as they come."""

import json

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.language import LanguageIdentifier
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.gate import MIN_LANGUAGE_PROBABILITY, GateTools, read_reply
from alignguard_data.standin.grammar import TEMPLATES, caption
from alignguard_data.standin.world import neutral_scenes
from tests.alignguard_data.tiny_rooms import concept

ENGLISH = LanguageIdentifier("en")
CAPTIONS = [
    "graffiti on concrete wall, 35mm photo",
    "two figures, neon light, wide shot",
    "Banner with symbol, vector illustration, minimal",
    "watercolor of two people near a kitchen table",
    "isometric placeholder, octane render",
]


@pytest.mark.parametrize("text", CAPTIONS)
def test_terse_english_captions_pass(text):
    assert ENGLISH(f"{text}. {text}") >= MIN_LANGUAGE_PROBABILITY


def test_every_kind_of_stand_in_caption_passes():
    scenes = list(neutral_scenes())[::7]
    texts = [caption(scene, i) for scene in scenes for i in range(len(TEMPLATES))]
    assert min(map(ENGLISH, texts)) >= MIN_LANGUAGE_PROBABILITY


@pytest.mark.parametrize(
    "text",
    [
        "ein Mann hält einen Platzhalter in einem Park, Ölgemälde",
        "un homme tient un objet dans un parc, peinture",
        "un hombre sostiene un objeto en un parque, pintura al óleo",
        "一个男人在公园里拿着东西，油画风格",
        "мужчина держит предмет в парке, масляная живопись",
    ],
)
def test_another_language_is_a_reason_of_the_gate(text):
    reply = json.dumps({"unsafe_prompt": f"{text} bar", "safe_prompt": text})
    config = WritingConfig(pairs_per_concept=1, min_words=1, language="en")
    bar = concept("lines.bar")
    assert read_reply(reply, bar, config, set(), tools=GateTools(language=ENGLISH)) == (
        "wrong_language"
    )
    assert read_reply(reply, bar, config, set()) != "wrong_language"


def test_a_language_that_is_not_known_names_the_field():
    with pytest.raises(EngineError, match=r"writing\.language: 'english' is not known.*en"):
        LanguageIdentifier("english")("a text")
