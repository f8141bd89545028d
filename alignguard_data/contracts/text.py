"""The canonical form of a text for comparison by rules, terms, twins, duplicates and splits.

Texts that look the same to a reader have the same canonical form, whatever characters they use.
Both sides of a comparison go through :func:`canonical`. Stored text goes through :func:`tidy`,
which changes only invisible characters.
"""

import re
import unicodedata
from collections.abc import Iterator

VERSION = 1
"""Increment when :func:`canonical` or :func:`words` changes its result for any text."""

# Scripts that put no blanks between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han, and the
# supplementary Han planes.
BLANKLESS = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Their characters, for use inside a regular expression's brackets."""

_BLANKLESS = re.compile(f"[{BLANKLESS}]")

# Folded before NFKC, which turns some of them into a blank and an accent.
_QUOTES = str.maketrans(
    {"ϲ": "c", "Ϲ": "C", "ϳ": "j"}
    | dict.fromkeys("‘’‚‛ʼʻʽʹˈ′‵´`＇ꞌ՚׳＇", "'")
    | dict.fromkeys("“”„‟«»″‶〝〞〟＂״", '"')
)
_DASHES = frozenset("\u2212\u2043\u02d7\u2796\ufe63\uff0d")  # in addition to category Pd
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # in addition to Cf

_LATIN = _QUOTES | str.maketrans(
    dict(
        zip(
            # Cyrillic, Greek, Armenian
            "аеорсухіјѕԁһкмтвнгԛԝґүөαεορτυικνηγχω" + "օսոհցքզյ",
            "aeopcyxijsdhkmtbhrqwryoaeoptuiknnyxw" + "ounhggqj",
            strict=True,
        )
    )
    | dict(
        zip(
            # strokes, dots, small capitals and phonetic letters that have no decomposition
            "łøđħŧɨıȷƀɑɡɩʟɪɴʀʏʙɢʜℓᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢꜱꜰƙɓɗɠɦəʌ",
            "lodhtiijbagilinrybghlacdejkmoptuvwzsfkbdghea",
            strict=True,
        )
    )
    | {"æ": "ae", "œ": "oe"}
    | {chr(0x1F150 + i): chr(ord("a") + i) for i in range(26)}  # white letters on black discs
    | {chr(0x1F170 + i): chr(ord("a") + i) for i in range(26)}  # and squares
    | {chr(0x1F1E6 + i): chr(ord("a") + i) for i in range(26)}  # the letters of flags
)


def canonical(text: str, *, keep_case: bool = False) -> str:
    """Fold a text to the form in which texts are compared.

    Compatibility forms (full width, ligatures, styled letters), case, composed or decomposed
    letters, accents of Latin, Greek and Cyrillic letters, homoglyphs of Latin letters, dashes,
    quotation marks, digits of every script, underscores and the width of gaps are folded; invisible
    characters are removed. Punctuation stays.

    Args:
        text: any text.
        keep_case: do not fold case, where capitals carry meaning.

    Returns:
        The folded text.
    """
    if text.isascii() and text.isprintable():
        folded = text.translate(_QUOTES)
    else:
        wide = unicodedata.normalize("NFKC", "".join(map(_digit, text.translate(_QUOTES))))
        wide = wide if keep_case else wide.casefold()
        parts = _plain(unicodedata.normalize("NFKD", wide))
        folded = unicodedata.normalize("NFC", "".join(parts).translate(_LATIN))
    folded = " ".join(folded.replace("_", " ").split())
    return folded if keep_case else folded.casefold()


def words(text: str) -> list[str]:
    """Split a text into words, for counting and comparing.

    Split at white space, and by ICU's dictionaries in scripts without blanks (Chinese, Japanese,
    Thai, ...).

    Args:
        text: any text.

    Returns:
        The words in order, with repetitions.
    """
    if not _BLANKLESS.search(text):
        return text.split()
    from icu4py.breakers import WordBreaker

    found: list[str] = []
    for run in text.split():
        if _BLANKLESS.search(run):
            found += [part for part in WordBreaker(run, "en") if re.search(r"\w", part)]
        else:
            found.append(run)
    return found


def tidy(text: str) -> str:
    """Normalize a text for storage.

    Characters are composed, blanks single. Invisible characters that no script needs (control
    characters, zero-width marks) are removed.

    Args:
        text: any text.

    Returns:
        The tidy text, which looks the same to a reader.
    """
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(filter(_is_kept, composed)).split())


def _is_kept(mark: str) -> bool:
    # Joiners write Persian, Indic scripts and emoji.
    return mark.isspace() or mark in "\u200c\u200d" or not _is_hidden(mark)


def _is_hidden(mark: str) -> bool:
    return unicodedata.category(mark) in ("Cf", "Cc", "Cs", "Co") or mark in _INVISIBLE


def _digit(mark: str) -> str:
    """A numeric character in ASCII digits, as a reader understands it."""
    kind = unicodedata.category(mark)
    if kind == "Nd":
        return str(unicodedata.decimal(mark))
    if kind == "No" and (value := unicodedata.numeric(mark)) == int(value):
        plain = unicodedata.normalize("NFKC", mark)
        return str(int(value)) if plain == mark else plain
    if kind == "No":
        return f" {mark}"  # "5½" is not 51/2
    return mark


def _plain(decomposed: str) -> Iterator[str]:
    base = ""
    for mark in decomposed:
        kind = unicodedata.category(mark)
        if mark.isspace():
            yield " "
        elif _is_hidden(mark) or kind == "Me" or 0xFE00 <= ord(mark) <= 0xFE0F:
            continue
        elif kind == "Mn":
            if _needs_marks(base):
                yield mark
            continue
        elif kind == "Pd" or mark in _DASHES:
            yield "-"
        else:
            yield mark
        base = mark


def _needs_marks(base: str) -> bool:
    # A vowel sign of Thai or Devanagari is a letter; an accent of a Latin letter is not.
    if not base.isalpha():
        return False
    return not unicodedata.name(base, "").startswith(("LATIN", "GREEK", "CYRILLIC"))


def word_jaccard(one: str, other: str) -> float:
    """Jaccard index of two texts' word sets.

    Args:
        one: a text.
        other: another text.

    Returns:
        Shared words over all words, in [0, 1]; 1.0 for two empty texts.
    """
    first, second = set(words(canonical(one))), set(words(canonical(other)))
    together = first | second
    return len(first & second) / len(together) if together else 1.0
