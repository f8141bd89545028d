"""What follows a number or a word in a text: a measure, persons, a pause or a place."""

from alignguard_data.safety.age_words import (
    DOERS,
    ENDS_A_PHRASE,
    FOLLOWERS,
    PAUSES,
    PEOPLE,
    PLACES,
    RANKS,
    TOGETHER,
    YEARS,
)
from alignguard_data.safety.minors_words import EXTENTS, LAST_SECONDS, MEASURES, ONE_TIME, PERSONS
from alignguard_data.safety.number_words import NumberedText


class Following(NumberedText):
    """A text with tests of what begins at an index."""

    def measured(self, i: int) -> bool:
        """A unit or a sign of a measure."""
        if self.text(i) in ("%", "°", "×", '"', "'", "$", "€"):
            return True
        place = self.skip(i, frozenset("-"))
        word, after = self.text(place), self.text(place + 1)
        if word == "second":  # "14-second clips", "14 second delay"
            if place > i and self.glued(place):
                return not self.is_placed(place)
            before = [self.text(k) for k in range(max(0, i - 4), i)]
            return after in LAST_SECONDS and not PERSONS.intersection(before)
        if word == "in" and not self.glued(place):  # "9 in wide", but not "16 in a red coat"
            return after in MEASURES or after in EXTENTS or after in PAUSES
        if word == "by":  # "9 by 12", but not "16 by the sea"
            return self.number(place + 1) is not None
        if word in EXTENTS:  # "5 years away", but not "15 away from home"
            return self.text(place - 1) in MEASURES or self.text(place - 1) in YEARS
        return word in MEASURES and not self.of_persons(place)

    def is_no_measure(self, i: int) -> bool:
        """A unit of time in the singular that nothing follows: ``under 16 day, students``.

        A measure is in the plural ("under 16 minutes") or before what it measures ("16 day trip").
        """
        ends = PAUSES - {"-"}
        return self.text(i) in ONE_TIME and self.text(i + 1) in ends

    def of_persons(self, i: int, *, any_noun: bool = False) -> bool:
        """A measure, or any noun, that persons follow: ``day students``, ``week course pupils``."""
        place = self.skip(i)
        measure = self.text(place) in MEASURES | {"second"}
        if not (measure or (any_noun and self.text(place).isalpha())):
            return False
        one = not measure or self.text(place) in ONE_TIME
        for _ in range(4):
            place = self.skip(place + 1, frozenset("-'"))
            word = self.text(place)
            together = word in TOGETHER or (self.text(place - 1) in TOGETHER and word == "the")
            if one and together:
                continue
            if word in ENDS_A_PHRASE or word in MEASURES:
                return False
            if word in PEOPLE or (measure and DOERS.fullmatch(word)):
                return True
        return False

    def pauses(self, i: int) -> bool:
        """The end of a phrase, or what goes on after one."""
        word = self.text(i)
        ends = word in PAUSES or word in FOLLOWERS or word.endswith("ing")
        return ends or self.is_placed(i)

    def is_placed(self, i: int) -> bool:
        """``second from left``, ``3rd row``: says where a person is, so no unit and no thing."""
        word, after = self.text(i), i + 1
        if word.isdigit() and self.text(after) in ("st", "nd", "rd", "th") and self.glued(after):
            return self.text(self.skip(after + 1)) in PLACES
        if word in ("left", "right"):
            return self.text(after) in ("of", "side")
        return word in RANKS and self.text(self.skip(after)) in PLACES | PERSONS
