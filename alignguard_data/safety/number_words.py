"""Tokenizes a canonical text into words, signs and numbers, in digits and in words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_ONES = "zero one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBERS = {word: value for value, word in enumerate(_ONES + _TEENS)}
NUMBERS |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
NUMBERS |= {
    ten + one: 10 * value + digit
    for value, ten in enumerate(_TENS, start=2)
    for digit, one in enumerate(_ONES[1:], start=1)
}
NUMBERS |= {word + "s": value for word, value in NUMBERS.items() if 0 < value < 20}
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "k": 1000}
_SCALES |= {"million": 10**6, "billion": 10**9, "m": 10**6}
ORDINALS = {
    word: value
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
        "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth".split(),
        start=1,
    )
}
ROMANS = {
    text: value
    for value, text in enumerate(
        "i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi xvii".split(), start=1
    )
    if value > 1
}
_ROMAN = "|".join(sorted(ROMANS, key=len, reverse=True))
_ROMAN_AGE = re.compile(
    rf"(?<!\w)(?:{_ROMAN})(?=[ -]*(?:y|yo|years?|yrs?)(?!\w))"
    rf"|(?:(?<=age )|(?<=aged )|(?<=age of ))(?:{_ROMAN})(?!\w)"
)

_JOINS = frozenset("to and or through thru until till - / & ~ ,".split())
GLUE = frozenset("- / . ~ ' : ( * · •".split())


def romans_as_digits(plain: str) -> str:
    """The text with Roman numbers before years and after "age" in digits."""
    return _ROMAN_AGE.sub(lambda found: str(ROMANS[found[0]]), plain)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    glued: bool
    """No blank before it."""


_TOKENS = re.compile(r"\d{1,3}(?:[,.]\d{3})+(?!\d)|\d+:\d+|\d+(?:[.,]\d+)?|[^\W\d]+|[^\s\w]")


class NumberedText:
    """A text as words, numbers and signs by index from 0; empty outside."""

    def __init__(self, plain: str) -> None:
        self.tokens: Sequence[_Token] = [
            _Token(match[0], match.start() > 0 and not plain[match.start() - 1].isspace())
            for match in _TOKENS.finditer(plain)
        ]

    def text(self, i: int) -> str:
        """The word, number or sign at an index."""
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ""

    def skip(self, i: int, signs: frozenset[str] = GLUE) -> int:
        """The index after at most two of ``signs``."""
        for _ in range(2):
            if self.text(i) in signs:
                i += 1
        return i

    def number(self, i: int) -> tuple[float, int] | None:
        """A number, in digits or words, and the index after it."""
        text = self.text(i)
        if text in ("a", "an") and self.text(i + 1) in ("hundred", "thousand", "million"):
            value, end = 1.0, i + 1
        elif text[:1].isdigit() and ":" not in text:
            if self.text(i + 1) in ("st", "nd", "rd", "th") and self.tokens[i + 1].glued:
                return None
            value, end = _digits(text), i + 1
            if self.text(end) == "000" and not self.tokens[end].glued:  # "12 000"
                value, end = value * 1000, end + 1
            end = self._past_fraction(end)
        elif text in NUMBERS:
            value, end = float(NUMBERS[text]), i + 1
            one = self.skip(end, frozenset("-"))
            if value >= 20 and value % 10 == 0 and 0 < NUMBERS.get(self.text(one), 0) < 10:
                value, end = value + NUMBERS[self.text(one)], one + 1
        else:
            return None
        return self._scaled(value, end)

    def _scaled(self, value: float, end: int) -> tuple[float, int]:
        while (word := self.text(end)) in _SCALES:
            if word in ("k", "m") and not self.tokens[end].glued:
                break
            if word == "m":  # metres or millions: not an age
                return float("inf"), end + 1
            value, end = value * _SCALES[word], end + 1
            rest = end + 1 if self.text(end) == "and" else end
            if (more := self.text(rest)) in NUMBERS:
                value, end = value + NUMBERS[more], rest + 1
        if [self.text(end + n) for n in range(3)] == ["and", "a", "half"]:
            end += 3
        return value, end

    def _past_fraction(self, i: int) -> int:
        whole = self.text(i).isdigit() and self.text(i + 1) == "⁄"
        return i + 3 if whole else i

    def chain(self, i: int) -> tuple[list[float], int] | None:
        """Joined numbers: ``13-15``, ``13 to 15``, ``12, 13 or 14``."""
        first = self.number(i)
        if first is None:
            return None
        values, end = [first[0]], first[1]
        while self.text(end) in _JOINS:
            joined = end + 1 + (self.text(end) == "," and self.text(end + 1) in _JOINS)
            following = self.number(joined)
            if following is None:
                break
            values.append(following[0])
            end = following[1]
        return values, end

    def after_fillers(self, i: int, words: frozenset[str], signs: frozenset[str]) -> int:
        """The index after at most five of ``words`` and ``signs``."""
        for _ in range(5):
            if self.text(i) in words or self.text(i) in signs:
                i += 1
        return i

    def glued(self, i: int) -> bool:
        """Whether the token has no blank before it."""
        return i < len(self.tokens) and self.tokens[i].glued


def _digits(text: str) -> float:
    if re.fullmatch(r"\d{1,3}(?:[,.]\d{3})+", text):
        return float(re.sub(r"[,.]", "", text))
    return float(text.replace(",", "."))
