"""The canonical form: what a reader takes for the same text is the same, and nothing more is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignguard_data.contracts.text import canonical, tidy, words

# Each is another spelling of "a 12-year-old's t-shirt".
PLAIN = "a 12-year-old's t-shirt"
SAME = {
    "capitals": "A 12-YEAR-OLD'S T-Shirt",
    "gaps": "  a\t12-year-old's\u00a0\u3000t-shirt\n",
    "no-break hyphen": "a 12\u2011year\u2011old's t\u2011shirt",
    "hyphen": "a 12\u2010year\u2010old's t\u2010shirt",
    "figure dash": "a 12\u2012year\u2012old's t\u2012shirt",
    "en dash": "a 12\u2013year\u2013old's t\u2013shirt",
    "em dash": "a 12\u2014year\u2014old's t\u2014shirt",
    "bar": "a 12\u2015year\u2015old's t\u2015shirt",
    "minus": "a 12\u2212year\u2212old's t\u2212shirt",
    "small hyphen": "a 12\ufe63year\ufe63old's t\ufe63shirt",
    "typographic apostrophe": "a 12-year-old’s t-shirt",
    "prime": "a 12-year-old′s t-shirt",
    "acute accent": "a 12-year-old´s t-shirt",
    "modifier apostrophe": "a 12-year-oldʼs t-shirt",
    "Arabic-Indic digits": "a ١٢-year-old's t-shirt",
    "Persian digits": "a ۱۲-year-old's t-shirt",
    "Devanagari digits": "a १२-year-old's t-shirt",
    "Thai digits": "a ๑๒-year-old's t-shirt",
    "bold digits": "a 𝟏𝟐-year-old's t-shirt",
    "circled number": "a ⑫-year-old's t-shirt",
    "dingbat digits": "a ❶❷-year-old's t-shirt",
    "keycaps": "a 1\ufe0f\u20e32\ufe0f\u20e3-year-old's t-shirt",
    "full width": "ａ １２－ｙｅａｒ－ｏｌｄ＇ｓ ｔ－ｓｈｉｒｔ",
    "soft hyphen": "a 12-ye\u00adar-old's t-shi\u00adrt",
    "zero-width space": "a 12-ye\u200bar-old's t-shi\u200brt",
    "zero-width joiners": "a 12-ye\u200c\u200dar-old's t-shi\u2060\ufeffrt",
    "direction marks": "a \u202a12-year-old's\u202c t-sh\u200eirt",
    "fillers": "a 12-ye\u3164ar-old's t-shi\u2800rt",
    "tag characters": "a 12-ye\U000e0041ar-old's t-shirt",
    "control characters": "a 12-ye\x00ar-old's t-shi\x1brt",
    "half characters": "a 12-ye\ud800ar-old's t-shirt",
    "variation selectors": "a 12-ye\ufe0far-old's t-shi\ufe00rt",
    "accents": "a 12-yéàr-öld's t-shïrt",
    "decomposed accents": unicodedata.normalize("NFD", "a 12-yéàr-öld's t-shïrt"),
    "struck letters": "a 12-year-øłđ's ŧ-shirt",
    "Cyrillic letters": "а 12-уеаr-оld's t-ѕhіrt",
    "Greek letters": "α 12-yεαr-οld's τ-shιrτ",
    "styled letters": "𝒶 12-𝓎𝑒𝒶𝓇-𝐨𝐥𝐝's 𝔱-𝕤𝕙𝕚𝕣𝕥",
    "small capitals": "ᴀ 12-ʏᴇᴀʀ-ᴏʟᴅ's ᴛ-ꜱʜɪʀᴛ",
    "letters in discs": "🅐 12-year-old's 🅣-shirt",
    "ligatures": "a 12-year-old's t-shirt",
    "underscores": "a_12-year-old's_t-shirt",
}


@pytest.mark.parametrize("spelling", SAME.values(), ids=SAME)
def test_spellings_of_one_text_have_one_form(spelling):
    assert canonical(spelling) == PLAIN


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5½ years", "51/2 years"),
        ("ガラス", "カラス"),  # glass, crow: the mark is a letter's
        ("มา", "ม้า"),  # Thai: come, horse
        ("a, b", "a b"),
        ("1,200", "1.200"),
    ],
)
def test_texts_that_differ_to_a_reader_stay_different(one, other):
    assert canonical(one) != canonical(other)


@given(st.text())
def test_the_form_of_the_form_is_itself_whatever_was_composed(text):
    form = canonical(text)
    assert canonical(form) == form
    assert canonical(unicodedata.normalize("NFD", text)) == canonical(
        unicodedata.normalize("NFC", text)
    )


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a red t-shirt, on a knife's edge", 7),
        ("", 0),
        ("一把刀放在木桌上，旁边有一只红色的杯子", 11),
        ("ナイフがテーブルの上にある。", 7),
        ("มีดวางอยู่บนโต๊ะไม้", 6),
        ("a 红色T恤 here", 5),
    ],
)
def test_words_are_counted_in_scripts_without_blanks_too(text, count):
    assert len(words(text)) == count


def test_what_is_stored_keeps_its_letters_and_loses_what_cannot_be_seen():
    text = "A  Cafe\u0301\u200b \ud800at\u00ad noon\x00,\n“t‑shirt” \ufeff👩\u200d🎨 می\u200cخواهم "
    assert tidy(text) == "A Café at noon, “t‑shirt” 👩\u200d🎨 می\u200cخواهم"
