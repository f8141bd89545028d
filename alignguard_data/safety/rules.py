"""Safety gates on text: minors, named people, and redaction for logs.

Nothing disables these gates: no parameter, environment variable or profile field. They refuse too
much rather than too little, since a wrongly refused text costs one row. They are a first gate and
not a guarantee: they cover English and a few words of other languages, and match words, not
meaning.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from alignguard_data.contracts import text as text_form
from alignguard_data.contracts.text import canonical
from alignguard_data.safety import minors_words
from alignguard_data.safety.ages import speaks_of_minors_age

RULES = 9
"""Increment when a word, a phrase or a rule about ages or people changes."""

VERSION = f"{RULES}.{text_form.VERSION}"
"""Version of the rules and of the canonical form, part of the fingerprint of rooms that use
them."""

MINORS = "minors"
REAL_PERSON = "real_person"


def _any_of(phrases: Iterable[str], gap: str) -> str:
    found = {re.escape(canonical(phrase)).replace(r"\ ", gap) for phrase in phrases}
    return "|".join(sorted(found, key=lambda one: (-len(one), one)))


_NAMED = (*minors_words.WORDS, *minors_words.PHRASES)
_WORDS = re.compile(rf"(?<!\w)(?:{_any_of(_NAMED, '[ ./-]{0,3}')})(?!\w)")
_OTHER_SCRIPTS = re.compile(_any_of(minors_words.OTHER_SCRIPTS, ""))
_EXCEPTIONS = re.compile(
    rf"(?<!\w)(?:{_any_of(minors_words.EXCEPTIONS, '[ -]')}"
    rf"|{_any_of(minors_words.NOT_MEANT, '')})"
    rf"(?!\w)(?![ -](?:{_any_of(minors_words.PERSONS, '')})(?!\w))"
    rf"|(?<!\w)(?:{_any_of(minors_words.AT_AN_END, '[ -]')})(?=[.;!]*$)"
)

# A long dash separates clauses like a comma, but the canonical form turns it into a hyphen.
_LONG_DASHES = re.compile("[\u2014\u2015\u2e3a\u2e3b\ufe58]")

_LEET = tuple(str.maketrans("013457@$!|+€", f"o{one}eastasilte") for one in "il")
_LETTER = re.compile("[a-z]")
_DIGITS_AND_UNIT = re.compile(r"[\d.,:/x+-]+(?:st|nd|rd|th|[ymkxhps]|yo|yrs?|mm|cm|px|am|pm|ft)?")
_ALMOST = r"(?=[lio]*\d)[\dlio]{2,3}"
_ALMOST_DIGITS = re.compile(
    rf"(?<!\w){_ALMOST}(?=[ -]*(?:y|yo|years?|yrs?)(?!\w))|(?:(?<=age )|(?<=aged )){_ALMOST}(?!\w)"
)
_AS_DIGITS = str.maketrans("lio", "110")

_PERSON_WORDS = re.compile(
    r"\b(?:celebrit(?:y|ies)|real (?:person|people|persons)|identifiable (?:person|people)|"
    r"public figures?|politicians?|deep\W?fakes?)\b"
)
_FULL_NAME = re.compile(r"\b[A-Z][a-z']+(?:\s+(?:[A-Z]\.|de|van|von|bin|al))?\s+[A-Z][a-z']+")


@lru_cache(maxsize=65_536)
def refusal(text: str) -> str | None:
    """Check whether a text mentions anyone under 18.

    Args:
        text: a prompt, a caption or a term.

    Returns:
        ``"minors"``, or None.
    """
    plain = canonical(_LONG_DASHES.sub(" - ", text))
    if _OTHER_SCRIPTS.search(plain):
        return MINORS
    meant = _EXCEPTIONS.sub(" | ", plain)
    texts = list(_unmasked_texts(meant))
    if any(map(speaks_of_minors_age, dict.fromkeys(texts))):
        return MINORS
    variants = dict.fromkeys([*texts, *(form for one in texts for form in _joined(one))])
    return MINORS if any(map(_WORDS.search, variants)) else None


def concept_refusal(name: str, terms: tuple[str, ...]) -> str | None:
    """Check whether a concept may enter a taxonomy.

    Args:
        name: what the concept is, in plain words.
        terms: words and phrases by which a prompt names it.

    Returns:
        ``"minors"``, ``"real_person"``, or None if it may.
    """
    for text in (name, *terms):
        if reason := refusal(text):
            return reason
        if _PERSON_WORDS.search(canonical(text)):
            return REAL_PERSON
    return REAL_PERSON if any(map(_reads_like_a_name, terms)) else None


def redact(prompt: str) -> str:
    """Make the form of an unsafe prompt that may be logged.

    Args:
        prompt: the prompt.

    Returns:
        Its length and a short hash.
    """
    digest = hashlib.sha256(prompt.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"<unsafe prompt, {len(prompt.split())} words, {digest}…>"


def _reads_like_a_name(term: str) -> bool:
    # Names are recognised by capitals, so case is kept.
    return bool(_FULL_NAME.search(canonical(term, keep_case=True)))


def _unmasked_texts(plain: str) -> Iterator[str]:
    """The text, and its other readings.

    Without digits for letters, letters for digits, gaps between letters ("c h i l d", "c.h.i.l.d")
    and letters repeated three times.
    """
    yield plain
    yield _ALMOST_DIGITS.sub(lambda found: found[0].translate(_AS_DIGITS), plain)
    for unmasked in dict.fromkeys(_unmasked(plain, table) for table in _LEET):
        yield unmasked
        yield re.sub(r"\b\w(?:[\W_]{1,2}\w\b){2,}", _without_gaps, unmasked)
        yield re.sub(r"([a-z])\1{2,}", r"\1\1", unmasked)


def _joined(text: str) -> Iterator[str]:
    """Read without signs in a word ("chi-ld") and without doubled letters.

    Only for word rules, since it breaks measures ("5 fet").
    """
    yield re.sub(r"(?<=[a-z])[\-_.*·'~](?=[a-z])", "", text)
    yield re.sub(r"([a-z])\1+", r"\1", text)


def _unmasked(plain: str, table: dict[int, int]) -> str:
    # Only words that are not quantities: "13", "13th", "13yo" and "f/1.8" stay, "ch1ld" is
    # unmasked.
    return " ".join(
        w.translate(table) if _LETTER.search(w) and not _is_quantity(w) else w
        for w in plain.split()
    )


def _is_quantity(word: str) -> bool:
    return bool(_DIGITS_AND_UNIT.fullmatch(word.strip(".,;:!?()\"'")))


def _without_gaps(spaced: re.Match[str]) -> str:
    return re.sub(r"[\W_]", "", spaced[0])
