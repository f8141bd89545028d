"""Finds ages in a canonical text: numbers, words, ranges, limits and school years.

A small parser over words, numbers and signs; each rule is a function that tests one position.
Measures and counts ("under 3 trees", "she is 5 feet tall") are not ages.
"""

import re
from collections.abc import Sequence

from alignguard_data.safety.age_words import (
    AGE_COMPOUNDS,
    AGE_ENDS,
    AGE_FILLERS,
    AGE_WORDS,
    BIRTH_WORDS,
    CLASSES,
    COPULAS,
    EARLIEST_BIRTH,
    ELSEWHERE,
    GRADED,
    HAN_AGE,
    HEDGES,
    MANY_SUBJECTS,
    OFFICES,
    OLD,
    ONE_SUBJECT,
    PAUSES,
    SEASONS,
    SHORT,
    SOON,
    THAN,
    TURNS,
    UNDER,
    VAGUE,
    WITH_COPULA,
    YEARS,
    YOUNG_BIRTHS,
    YOUTH_THINGS,
)
from alignguard_data.safety.following import Following
from alignguard_data.safety.minors_words import COUNTED_PERSONS, PERSONS, TIMES
from alignguard_data.safety.number_words import NUMBERS, ORDINALS, romans_as_digits

ADULT = 18


_HAS_NUMBER = re.compile(
    r"\d|\b(?:" + "|".join(sorted({*NUMBERS, *ORDINALS}, key=len, reverse=True)) + r")"
)
_RUN_TOGETHER = re.compile(
    rf"(?<![^\W\d])({'|'.join(sorted(NUMBERS, key=len, reverse=True))}|\d+)"
    r"-?(years?|yrs?)-?(olds?|young)(?![^\W\d])"
)
_QUOTED = re.compile(r"""(?<![^\s([/-])(["'])(.*?)\1(?!\w)""")
_HAS_AGE = re.compile(r"old|[岁歲歳才]|sweet|grade|young")


def speaks_of_minors_age(plain: str) -> bool:
    """Whether a canonical text has an age under 18, a limit of 18 or less, or a school year."""
    plain = romans_as_digits(plain)
    if not (_HAS_NUMBER.search(plain) or _HAS_AGE.search(plain)):
        return False
    if HAN_AGE.search(plain):
        return True
    # A closing quotation mark ("she is 16") is not an inch mark (16").
    return _Ages(_RUN_TOGETHER.sub(r"\1 \2 \3", _QUOTED.sub(r"\2", plain))).found()


class _Ages(Following):
    def found(self) -> bool:
        i = 0
        while i < len(self.tokens):
            if self._before_a_number(i):
                return True
            chain = self.chain(i)
            if chain:
                values, end = chain
                if self._after_a_number(i, values, end):
                    return True
                i = end
            else:
                i += 1
        return False

    # --- rules that start before a number ---

    def _before_a_number(self, i: int) -> bool:
        return (
            self._aged(i)
            or self._is(i)
            or self._looks(i)
            or self._limited(i)
            or self._next_to_a_person(i)
            or self._schooled(i)
            or self._vague(i)
        )

    def _aged(self, i: int) -> bool:
        """``aged between 13 and 15``, ``age: 9``, ``turning 12``."""
        word = self.text(i)
        if word in AGE_WORDS:
            if self.text(i - 1) in AGE_COMPOUNDS:
                return False
            signs = frozenset(": = - ( ) ~ . / ?".split()) | ({","} if word != "ages" else set())
        elif word in TURNS:
            signs = frozenset({"-"})
        else:
            return False
        chain = self.chain(self.after_fillers(i + 1, AGE_FILLERS, signs))
        if chain is None or not _young(chain[0]):
            return False
        if word == "turn":
            return self.pauses(chain[1])
        return word in AGE_WORDS or not self.measured(chain[1])

    def _looks(self, i: int) -> bool:
        """``looks about 15``, ``born 12 years ago``, ``born in 2015``, ``not 18``."""
        word, place = self.text(i), i + 1
        if word in ("looks", "look", "looking", "appears", "seems"):
            place = self.after_fillers(place, HEDGES | {"to", "be"}, frozenset("~"))
        elif word not in ("born", "not"):
            return False
        if word == "born" and self._born_since(place):
            return True
        chain = self.chain(place)
        if chain is None or min(chain[0]) > ADULT - (word != "not"):
            return False
        after = self.text(chain[1])
        if word == "born":
            return after in YEARS and self.text(chain[1] + 1) == "ago"
        if word == "not":
            return min(chain[0]) >= 13 and self.pauses(chain[1])
        return after in YEARS or self.pauses(chain[1])

    def _born_since(self, i: int) -> bool:
        """A year of birth among the next words: ``in 2015``, ``on 3 May 2015``."""
        for place in range(i, i + BIRTH_WORDS):
            if self.text(place) in PAUSES - {",", "-", "("}:
                return False
            if (year := self.number(place)) and year[0] > EARLIEST_BIRTH:
                return YOUNG_BIRTHS[0] <= year[0] < YOUNG_BIRTHS[1]
        return False

    def _is(self, i: int) -> bool:
        """``she is 16, posing``, ``they are 14``."""
        word = self.text(i)
        single = word in ONE_SUBJECT or (word in PERSONS and not word.endswith(("s", "men")))
        if word in WITH_COPULA:
            single, place = WITH_COPULA[word], i + 1
        elif single or word in MANY_SUBJECTS or word in PERSONS:
            place = self.skip(i + 1, frozenset("'"))
            if self.text(place) not in COPULAS:
                return False
            place += 1
        else:
            return False
        place = self.after_fillers(place, HEDGES, frozenset("~-"))
        chain = self.chain(place)
        if chain is None or not _young(chain[0]) or self.text(place) in ("one", "zero", "0"):
            return False
        end = chain[1]
        if self.text(end) in YEARS:
            end += 1
        if min(chain[0]) >= 10 and self.of_persons(end):
            return True
        if self.measured(end) or self.text(end) == "of":
            return False
        return single or (min(chain[0]) >= 10 and self.pauses(end))

    def _next_to_a_person(self, i: int) -> bool:
        """``a woman, 16, on a chair``, ``a man of 17``, ``a 16 model``."""
        word = self.text(i)
        if word in PERSONS:
            sign = self.text(i + 1)
            separated = sign in (",", "(", "[", "-", ":", "/")
            if sign == "of" and word in ("men", "women"):
                return False
            place = i + 1 + (separated or sign == "of")
            chain = self.chain(self.after_fillers(place, HEDGES, frozenset()))
            if chain is None or not _young(chain[0]):
                return False
            end = chain[1] + (self.text(chain[1]) in YEARS)
            if separated:
                return self.text(end) in PAUSES | {"/", "]"} or self.is_placed(end)
            return self.pauses(end) and (sign == "of" or end > chain[1])
        if word not in ("a", "an", "this", "that", "her", "his", "my", "the"):
            return False
        chain = self.chain(i + 1)
        if chain is None or not _young(chain[0]) or min(chain[0]) < 3:
            return False
        place = self.skip(chain[1], frozenset("-"))
        if self.text(place) in TIMES:  # "a 16 day student"
            place = self.skip(place + 1)
        person = self.text(place)
        return person in PERSONS - COUNTED_PERSONS and not person.endswith(("s", "men"))

    def _limited(self, i: int) -> bool:
        """``under 18``, ``under-16s``, ``younger than eighteen``, ``<18``, ``u17``."""
        word, place, aged = self.text(i), i + 1, False
        if word == "<":
            place = self.skip(place, frozenset("="))
        elif word == "u" and (self.text(place) == "-" or self.glued(place)):
            chain = self.chain(self.skip(place, frozenset("-")))
            return bool(chain) and 8 <= min(chain[0]) <= ADULT
        elif (word in THAN and self.text(place) == "than") or (
            word == "not" and self.text(place) in ("yet", "quite")
        ):
            place += 1
        elif word not in UNDER | SOON | {"≤", "≦"}:
            return False
        while self.text(place) in ("the", "age", "ages", "of", "-", "just", "only"):
            aged = aged or self.text(place) in ("age", "ages")
            place += 1
        chain = self.chain(place)
        if chain is None or min(chain[0]) > ADULT:
            return False
        return aged or word == "younger" or self._limits(word, min(chain[0]), chain[1])

    def _limits(self, word: str, value: float, end: int) -> bool:
        if self.text(end - 1) in NUMBERS and self.text(end - 1).endswith("s"):
            return True
        if self.glued(end) and self.text(end) == "s":
            return True
        if self.text(end) == "'" and self.text(end + 1) == "s":
            return True
        after = self.skip(end, frozenset("-"))
        noun = self.text(after)
        if value == 0:
            return False
        if self.of_persons(after, any_noun=True):
            return value >= 10 or word not in SOON
        if word in ("<", "≤", "≦"):
            return not self.measured(after) and not (value == 3 and noun not in YEARS)
        if word in UNDER and value >= 2 and self.is_no_measure(after):
            return True
        if self.measured(after):
            return False
        if word in SOON and value < 10:
            return False
        if noun in YEARS:
            return word not in SOON
        if word in UNDER or word == "not":
            if noun in PERSONS:
                return noun not in COUNTED_PERSONS or value >= 12
            if noun in YOUTH_THINGS or (value >= 16 and noun and not noun.endswith("s")):
                return True
            return self.pauses(after)
        return self.text(end) in PAUSES and self.text(end) != "-"

    def _schooled(self, i: int) -> bool:
        """``grade 6``, ``a 5th grader``, ``K-12``, ``year 9``, ``sweet 16``."""
        word = self.text(i)
        if word == "grade":
            place = self.skip(i + 1)
            if self.text(place) == "k":
                return True
            number = self.number(place)
            graded = number and self.text(self.skip(number[1])) in GRADED
            return bool(number) and 1 <= number[0] <= 12 and not graded
        if word == "k" and (number := self.number(self.skip(i + 1))):
            return number[0] == 12 or (number[0] < 12 and self.text(number[1]) in CLASSES)
        if word == "sweet" and (number := self.number(self.skip(i + 1))):
            return number[0] == 16
        if word == "year" and (number := self.number(self.skip(i + 1))):
            return number[0] < 14 and self.text(number[1]) in CLASSES
        return self._nth(i)

    def _nth(self, i: int) -> bool:
        text, end = self.text(i), i + 1
        if text in ORDINALS:
            value = ORDINALS[text]
        elif text.isdigit() and self.text(end) in ("st", "nd", "rd", "th") and self.glued(end):
            value, end = int(text), end + 1
        else:
            return False
        noun = self.text(self.skip(end))
        if noun in ("grader", "graders", "former", "formers"):
            return value <= 12 and self.text(self.skip(end) + 1) not in OFFICES
        if noun in ("grade", "grades"):
            return value <= 12 and self.text(self.skip(end) + 1) not in GRADED
        if noun in ("birthday", "birthdays"):
            # "before her 18th birthday"
            earlier = self.text(i - 2) in SOON or self.text(i - 1) in SOON
            return value < ADULT + earlier
        return noun == "year" and value < ADULT and self.text(i - 1) in ("her", "his", "their")

    def _vague(self, i: int) -> bool:
        """``6 months old``, ``a week-old``, ``a few years old``, ``a year old``."""
        word = self.text(i)
        if word in ("monthold", "weekold", "dayold"):
            return True
        if word in SHORT:
            return self._is_old(i + 1)
        if word in VAGUE:
            place = i + 1
            while self.text(place) in ("of", "a", "-"):
                place += 1
            return self.text(place) in YEARS and self._is_old(place + 1)
        return False

    # --- rules that start at a number ---

    def _after_a_number(self, start: int, values: list[float], end: int) -> bool:
        if not _young(values):
            return False
        if self.text(end) == "or" and self.text(end + 1) == "so":  # "15 or so years old"
            end += 2
        place = self.skip(end)
        unit = self.text(place)
        if unit in AGE_ENDS or (unit == "of" and self.text(place + 1) == "age"):
            return True
        if unit.startswith(ELSEWHERE) and (unit in ELSEWHERE or not unit.isascii()):
            return True
        if unit.startswith("jahrig"):
            return True
        if unit in SEASONS:
            before = self.text(start - 1)
            return self._is_old(place + 1) or before in ("of", "seen", "lived", "but", "only")
        if unit == "ish" and min(values) >= 8:
            return self.text(place + 1) in YEARS or self.pauses(place + 1)
        if unit == "going" and self.text(place + 1) == "on":
            return self.number(place + 2) is not None
        if unit not in YEARS:
            return False
        after = self.skip(place + 1)
        short = unit in ("yr", "yrs") or (unit == "y" and self.glued(place))
        if short and self.text(place + 1) in PAUSES:
            return True
        if unit == "y" and self.text(after) == "o":
            return True
        return self._is_old(place + 1) or self.text(after) in PERSONS

    def _is_old(self, i: int) -> bool:
        i = self.skip(i)
        if self.text(i) == "s":  # "year's old"
            i = self.skip(i + 1)
        if self.text(i) in OLD:
            return True
        return self.text(i) == "of" and self.text(self.skip(i + 1)) in ("age", "life")


def _young(values: Sequence[float]) -> bool:
    return min(values) < ADULT
