"""Words of the rules about ages, beside those of persons and measures. No rule is here."""

import re

from alignguard_data.contracts.text import canonical
from alignguard_data.safety.minors_words import ANYONE, PERSONS
from alignguard_data.safety.number_words import ORDINALS

YEARS = frozenset("year years yr yrs y yrold".split())
AGE_ENDS = frozenset("yo yos yold yolds yro yearold yearsold yearolds yrold yrsold yrolds".split())
OLD = frozenset("old olds oldish young".split())
SHORT = frozenset("month months week weeks day days hour hours monthold weekold dayold".split())
SEASONS = frozenset("summer summers winter winters spring springs autumn autumns".split())
VAGUE = frozenset("a an few couple several half some".split())
ELSEWHERE = tuple(map(canonical, "ans anos anni jahre jaar лет года 歳 岁 歲 才 살 세".split()))
HAN_AGE = re.compile(
    "(?<![一二三四五六七八九十百千])(?:十[一二三四五六七]?|[一二三四五六七八九两兩])[岁歲歳才]"
)

PAUSES = frozenset(', . ; : ! ? ) ( ] " -'.split()) | {""}
FOLLOWERS = frozenset(
    "and or with on in at by but who when while if is was are that for to from wearing near beside "
    "behind".split()
)
RANKS = frozenset({*ORDINALS, "last", "next", "front", "back", "top", "bottom", "rear", "middle"})
PLACES = frozenset(
    "from in on at to of by left right row rows line place seat column bench one".split()
)

AGE_WORDS = frozenset("age aged ages aging ageing".split())
TURNS = frozenset("turn turning turned turns".split())
AGE_COMPOUNDS = frozenset(
    "ice stone bronze iron golden gilded space new middle dark dragon digital atomic jazz".split()
)
AGE_FILLERS = frozenset(
    "of is was at about around under below between from just only over barely roughly circa the "
    "her his their range group bracket than to be approximately in years".split()
)
COPULAS = frozenset("is was are were am be being s m re looks look appears seems".split())
ONE_SUBJECT = frozenset("she he i who it's".split())
MANY_SUBJECTS = frozenset("they we you both".split())
WITH_COPULA = {"shes": True, "hes": True, "im": True, "theyre": False, "youre": False}
HEDGES = frozenset(
    "just only barely about almost nearly now maybe probably actually really still like exactly "
    "already around approximately not even but a mere merely clearly roughly perhaps".split()
)

UNDER = frozenset("under below beneath sub".split())
SOON = frozenset("almost nearly before until".split())
THAN = frozenset("younger less fewer lower".split())
YOUTH_THINGS = frozenset("team squad side football soccer disco club league category".split())
CLASSES = PERSONS | frozenset("class classes classroom classrooms school schools".split())
TOGETHER = frozenset("with for of".split())
"""Between a noun and persons they end no phrase ("under 16 day with students")."""
EARLIEST_BIRTH = 1000
"""A smaller number after "born" is a day."""
YOUNG_BIRTHS = (2009, 2100)
"""First year of birth that is refused, and the first that is no year; fixed, as rules use no
clock."""
BIRTH_WORDS = 6
"""Words after "born" among which a year is looked for."""
OFFICES = frozenset("president minister king queen mayor prime member champion".split())
"""After "former" it means earlier ("the first former president")."""
ENDS_A_PHRASE = (PAUSES - {"-"}) | FOLLOWERS | frozenset("a an the her his their my".split())
DOERS = re.compile("[a-z]{2,}(?:ers|ors|ists|ians|ants)")  # in doubt persons: "campers"
PEOPLE = PERSONS | ANYONE | YOUTH_THINGS
GRADED = frozenset("titanium steel stainless bolt bolts alloy aluminium aluminum listed".split())
