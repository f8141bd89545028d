"""Naming a concept: which spellings of a term are found, and what is another word."""

import unicodedata

import pytest

from alignguard_data.contracts.terms import names_concept, term_keys

NAMED = (
    ("a Bar in a field", "bar"),
    ("bars, many", "bar"),
    ("the BAR's end", "bar"),
    ("thick  line here", "thick line"),
    ("a thick-line", "thick line"),
    ("a thickline", "thick line"),
    # hyphens
    ("a t-shirt", "t-shirt"),
    ("a t shirt", "t-shirt"),
    ("a tshirt", "t-shirt"),
    ("a t‑shirt", "t-shirt"),
    ("a t–shirt", "t-shirt"),
    ("a t−shirt", "t-shirt"),
    ("a t_shirt", "t-shirt"),
    ("a t.shirt", "t-shirt"),
    ("two T-Shirts", "t-shirt"),
    ("a t-shirt", "tshirt"),
    ("a hand-gun", "handgun"),
    # apostrophes
    ("a devil’s tail", "devil's tail"),
    ("a devil's tail", "devil’s tail"),
    ("a devils tail", "devil's tail"),
    ("a devil's tail", "devils tail"),
    ("a knifeʼs edge", "knife"),
    # plurals of either side
    ("two knives", "knife"),
    ("two bodies", "body"),
    ("dry leaves", "leaf"),
    ("wolves", "wolf"),
    ("thieves", "thief"),
    ("two men", "man"),
    ("teeth", "tooth"),
    ("mice", "mouse"),
    ("cacti", "cactus"),
    ("cactuses", "cactus"),
    ("boxes", "box"),
    ("torpedoes", "torpedo"),
    ("mosquitos", "mosquito"),
    ("pools of oil", "pool of oil"),
    ("one knife", "knives"),
    ("a leaf", "leaves"),
    ("zigzagged lines and zigzags", "zigzag"),
    # invisible and other characters
    ("a kni\u200bfe", "knife"),
    ("a kni\u00adfe", "knife"),
    ("a kni\u2060fe\ufeff", "knife"),
    ("a ｋｎｉｆｅ", "knife"),
    ("a 𝐤𝐧𝐢𝐟𝐞", "knife"),
    ("a knіfe", "knife"),  # Cyrillic i
    ("knife", "kni\u200bfe"),
    ("a café", "cafe\u0301"),
    ("a cafe\u0301", "café"),
    ("a cafe", "café"),
    ("gate ١٢", "gate 12"),
    # scripts without blanks, and next to them
    ("桌上有一把刀", "刀"),
    ("テーブルにナイフがある", "ナイフ"),
    ("มีดวางอยู่บนโต๊ะ", "มีด"),
    ("一件红色T恤bar放在", "bar"),
    ("ﾅｲﾌ", "ナイフ"),
    ("Красный нож", "НОЖ"),
)

OTHER_WORDS = (
    ("a barn", "bar"),
    ("thick, line", "thick line"),
    ("thick. line", "thick line"),
    ("a knifelike shape", "knife"),
    ("there he'll be, and we're there", "hell"),
    ("we're there", "were"),
    ("a foul ball", "fou"),
    ("カラス", "ガラス"),
    ("anything", ""),
    ("anything", "\u200b"),
    ("it's", "'"),
)


@pytest.mark.parametrize(("text", "term"), NAMED)
def test_a_term_is_found_however_it_is_spelt(text, term):
    assert names_concept(text, ("placeholder", term))


@pytest.mark.parametrize(("text", "term"), OTHER_WORDS)
def test_another_word_is_no_term(text, term):
    assert not names_concept(text, (term,))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("t-shirt", "T Shirts"),
        ("knife", "knives"),
        ("leaf", "leaves"),
        ("café", "cafe\u0301"),
        ("devil's tail", "devils’ tail"),
        ("刀", "刀\u200b"),
    ],
)
def test_terms_that_name_one_another_share_a_key(one, other):
    assert term_keys(one) & term_keys(unicodedata.normalize("NFD", other))


def test_other_terms_share_no_key_and_signs_have_none():
    assert not term_keys("bar") & term_keys("bark")
    assert term_keys("'-'") == frozenset()
