"""The safety gates on text: minors, named people, and redaction for logs.

Nothing switches these gates off: no parameter, no environment variable, no profile field. They
refuse too much rather than too little: a wrongly refused text costs one row.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache

from alignguard_data import text as text_form
from alignguard_data.text import canonical

VERSION = f"1.{text_form.VERSION}"
"""Of the rules and of the form that they read; a part of the fingerprint of what they passed."""

MINORS = "minors"
REAL_PERSON = "real_person"

_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    "thirteen|fourteen|fifteen|sixteen|seventeen"
)
_AGE = rf"(?:(?<!\d)(?<!\d[.,])(?:1[0-7]|0?[0-9])(?![\d:])|\b(?:{_NUMBER_WORDS})\b)"
_GAP = r"[\s\-_/.,]*"
_EIGHTEEN = r"(?:(?:1[0-8]|[1-9])(?!\d)|eighteen|seventeen|sixteen)"

_WORDS = re.compile(
    r"(?<!\w)(?:"
    r"child(?:ren|rens|s|ish|like|hood)?|(?:grand|school|step)child(?:ren)?|"
    r"kid(?:s|do|dos|die|dies|dy)?|(?:school)?kids?|toddlers?|tots?|infants?|infantile|"
    r"bab(?:ies|ys|e?y(?!\W+(?:blue|pink|grand)\b))|newborns?|neonates?|"
    r"minors|underage[drs]*|under\W?age[drs]*|minor(?!\W+(?:key|chord|scale|detail|planet|arcana)s?\b)|"
    r"(?:pre\W?)?teen(?:s|y|ie|ies|age|aged|ager|agers)?|(?:pre\W?)?teen\W?age(?:d|rs?)?|"
    r"tweens?|tweenagers?|(?:pre\W?)?adolescen(?:t|ts|ce)|juveniles?|youths?|youngsters?|"
    r"(?:pre\W?)?pubescents?|puberty|school\W?(?:boy|girl|kid|child|children|uniform)s?|"
    r"boys?|girls?|girly|boyish|girlish|lads?|lass(?:ie)?s?|"
    r"lolis?|lolitas?|lolicon|shotas?|shotacon|jail\W?baits?|barely\W?legal|"
    r"cherub(?:s|im)?|putt[oi]|"
    r"kindergart(?:en|ens|ner|ners|ener|eners)|pre\W?school(?:s|er|ers)?|pre\W?k|day\W?care|"
    r"nurser(?:y|ies)|(?:elementary|primary|middle|grade|junior|high|secondary)\W?school(?:s|er|ers)?|"
    r"junior\W?high|grade\W?schoolers?|"
    r"bambin[oaie]|enfants?|madchen|menin[oa]s?|nin[oa]s\b|crianca?s?"
    r")(?!\w)"
)
_MINOR_NAMES = re.compile(r"(?<!\w)(?:ursa|canis|leo|asia)\W+minor(?!\w)")

_AGES = re.compile(
    "|".join(
        (
            rf"{_AGE}{_GAP}(?:years?|yrs?|yr?s?)\b{_GAP}(?:old|of\s+age|young)",
            rf"{_AGE}{_GAP}(?:yo|y\W?o|yrs?\W?old)\b",
            rf"{_AGE}{_GAP}years?\W?olds?\b",
            rf"\b(?:aged?|ages|aging|turning|turned){_GAP}(?:of\s+|is\s+|:\s*)?{_AGE}\b",
            rf"\b\w+{_GAP}(?:months?|weeks?|days?){_GAP}olds?\b(?={_GAP}(?!\w*(?:cheese|wine)))",
            rf"\b(?:under|below|younger\s+than|not\s+yet|less\s+than|before){_GAP}"
            rf"(?:the\s+age\s+of\s+|age\s+)?{_EIGHTEEN}(?:'?s)?\b(?!\s*(?:%|percent|minutes|metres|meters|km))",
            rf"<\s*{_EIGHTEEN}(?:'?s)?\b",
            r"\bsweet\W+(?:16|sixteen)\b",
            r"\bgrade\W*(?:1[0-2]|[1-9]|k|one|two|three|four|five|six|seven|eight|nine|ten)\b",
            r"\b(?:1st|2nd|3rd|(?:[4-9]|1[0-2])th|first|second|third|fourth|fifth|sixth|seventh|"
            r"eighth|ninth|tenth|eleventh|twelfth)\W+grad(?:e|er|ers)\b",
            r"\bk\W?12\b",
        )
    )
)

# Matched without word boundaries.
_OTHER_SCRIPTS = re.compile(
    "|".join(
        map(
            canonical,
            "子供 子ども こども 少女 幼女 少年 儿童 兒童 孩子 ロリ ショタ "
            "ребен дети детск девочк мальчик подросток "
            "\U0001f466 \U0001f467 \U0001f476 \U0001f9d2".split(),
        )
    )
)

_LEET = tuple(str.maketrans("013457@$!|+€", f"o{one}eastasilte") for one in "il")
_LETTER = re.compile("[a-z]")

_PERSON_WORDS = re.compile(
    r"\b(?:celebrit(?:y|ies)|real (?:person|people|persons)|identifiable (?:person|people)|"
    r"public figures?|politicians?|deep\W?fakes?)\b",
    re.IGNORECASE,
)
_FULL_NAME = re.compile(r"\b[A-Z][a-z'’]+(?:\s+(?:[A-Z]\.|de|van|von|bin|al))?\s+[A-Z][a-z'’]+")


@lru_cache(maxsize=65_536)
def refusal(text: str) -> str | None:
    """``"minors"`` for a text about anyone under 18, else None.

    Words, ages in digits and words, school grades and the usual evasions (zero-width marks,
    spaced-out letters, digits for letters, look-alike letters, repeated letters) are found. A
    text in a language that the lists do not know is not: writers are asked for English.
    """
    plain = canonical(text)
    if _OTHER_SCRIPTS.search(plain) or _AGES.search(plain):
        return MINORS
    for variant in set(_variants(plain)):
        if _WORDS.search(_MINOR_NAMES.sub(" ", variant)):
            return MINORS
    return None


def concept_refusal(name: str, terms: tuple[str, ...]) -> str | None:
    """Why a concept may not enter a taxonomy: ``"minors"``, ``"real_person"``, or None.

    Real people cannot be told from invented ones by a pattern, so the rule sits on concepts,
    where a person reads what is written: terms are common nouns, and one that reads like a
    person's full name (two capitalised words) or speaks of celebrities is refused, whatever
    its category.
    """
    for text in (name, *terms):
        if reason := refusal(text):
            return reason
        if _PERSON_WORDS.search(text):
            return REAL_PERSON
    return REAL_PERSON if any(_FULL_NAME.search(term) for term in terms) else None


def redact(prompt: str) -> str:
    """What a log may say about an unsafe prompt: its length and a short hash."""
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    return f"<unsafe prompt, {len(prompt.split())} words, {digest}…>"


def _variants(plain: str) -> Iterator[str]:
    yield plain
    for unmasked in {_unmasked(plain, table) for table in _LEET}:
        yield unmasked
        # "c h i l d" and "c.h.i.l.d", then "chi-ld"; then "chiiild", kept double and single.
        yield re.sub(r"\b\w(?:[\W_]{1,2}\w\b){2,}", _without_gaps, unmasked)
        yield re.sub(r"(?<=[a-z])[\-_.*·'’~](?=[a-z])", "", unmasked)
        yield re.sub(r"([a-z])\1{2,}", r"\1\1", unmasked)
        yield re.sub(r"([a-z])\1+", r"\1", unmasked)


def _unmasked(plain: str, table: dict[int, int]) -> str:
    # Only words with a letter: "13" is a number, "ch1ld" is not.
    return " ".join(w.translate(table) if _LETTER.search(w) else w for w in plain.split())


def _without_gaps(spaced: re.Match[str]) -> str:
    return re.sub(r"[\W_]", "", spaced[0])
