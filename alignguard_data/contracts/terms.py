"""Whether a text names a term: as words, singular or plural, in any spelling.

English plurals, also irregular ones (knives, bodies, men), come from lemminflect's word lists. A
term of another language matches as spelt, and with an s.
"""

import itertools
import re
from collections.abc import Sequence
from functools import cache

from alignguard_data.contracts.text import BLANKLESS, canonical

# Between letters of a word and between the words of a term: "hand-gun" for "handgun", "t shirt",
# "tshirt" and "t.shirt" for "t-shirt", but no "thick, line" for "thick line".
_IN_WORD = "-?"
_APOSTROPHE = r"['\-]?"  # where the word has one or before its last s: "he'll" is not "hell"
_BETWEEN = r"(?:[\s\-]+|[.'/·•])?"

# Scripts without blanks have no word boundaries.
_BEFORE = rf"(?<![^\W{BLANKLESS}])"
_AFTER = rf"(?![^\W{BLANKLESS}])"


def names_concept(text: str, terms: Sequence[str]) -> bool:
    """Check whether a text names a concept by any of its terms, singular or plural.

    Spellings that :func:`canonical` folds are equal. In scripts without blanks a term matches
    wherever its characters occur.

    Args:
        text: a prompt.
        terms: words and phrases of the concept.

    Returns:
        True if at least one term occurs as words.
    """
    pattern = _pattern(tuple(terms))
    return bool(pattern and pattern.search(canonical(text)))


@cache
def term_keys(term: str) -> frozenset[str]:
    """Keys that two terms share if a text that names one may name the other.

    Args:
        term: a word or phrase.

    Returns:
        Its words in the singular, joined; empty for a term without a letter or digit.
    """
    words = [word.replace("'", "") for word in _words(term)]
    singulars = [{word, *_singulars(word)} for word in words]
    return frozenset("".join(chosen) for chosen in itertools.product(*singulars) if chosen)


@cache
def _pattern(terms: tuple[str, ...]) -> re.Pattern[str] | None:
    patterns = [_term_pattern(words) for term in terms if (words := _words(term))]
    return re.compile("|".join(patterns)) if patterns else None


def _words(term: str) -> list[str]:
    return [word for part in re.split(r"[\s\-]+", canonical(term)) if (word := part.strip("'"))]


def _term_pattern(words: list[str]) -> str:
    last = len(words) - 1
    parts = [
        "|".join(map(_word_pattern, sorted(_forms(word) if i == last or len(word) > 2 else [word])))
        for i, word in enumerate(words)
    ]
    inner = _BETWEEN.join(f"(?:{part})" for part in parts)
    before = "" if re.match(f"[{BLANKLESS}]", words[0]) else _BEFORE
    after = "" if re.search(f"[{BLANKLESS}]$", words[-1]) else _AFTER
    return f"{before}{inner}{after}"


def _word_pattern(word: str) -> str:
    letters = _IN_WORD.join(_APOSTROPHE if mark == "'" else re.escape(mark) for mark in word)
    return re.sub(r"-\?s$", lambda _: f"{_APOSTROPHE}s", letters)


def _forms(word: str) -> set[str]:
    """A word, its singulars, and the plurals of all of them."""
    base = {word, *_singulars(word)}
    forms = base | {word + "s", word + "es"}
    if _is_english(word):
        from lemminflect import getInflection

        forms |= {plural for one in base for plural in getInflection(one, "NNS")}
    return forms


def _singulars(word: str) -> tuple[str, ...]:
    if not _is_english(word):
        return (word.removesuffix("s"),) if len(word) > 3 else ()
    from lemminflect import getLemma

    return tuple(getLemma(word, "NOUN"))


def _is_english(word: str) -> bool:
    return word.isascii() and word.isalpha()
