"""Which pair is dropped and why: each reason, its limits and their fixed order."""

import dataclasses

import pytest

from alignguard_data.contracts.flags import FlagRule, flagged, version_faults
from alignguard_data.contracts.records import PromptPair
from alignguard_data.pairs.config import FilterRules
from alignguard_data.pairs.filter import (
    REASONS,
    Candidate,
    Drop,
    KeptPairs,
    SideEvidence,
    drop_reason,
)

FLAG = FlagRule(scorer="s", key="k", at_least=0.5)
STRICT = FilterRules(
    flags=(FLAG,),
    min_twin_cosine=0.3,
    max_twin_cosine=0.9,
    max_phash_distance=2,
    max_prompt_jaccard=0.5,
)


def side(value: float, phash: str = "0" * 16) -> SideEvidence:
    return SideEvidence(image_id="i", phash=phash, scores={("s", "k"): value})


def candidate(
    unsafe: SideEvidence | None = side(0.9),
    safe: SideEvidence | None = side(0.1),
    unsafe_prompt: str = "a wide red field at noon with a bar",
    safe_prompt: str = "a wide red field at noon",
    cosine: float = 0.6,
    name: str = "p",
) -> Candidate:
    pair = PromptPair(
        pair_id=name,
        concept="lines.bar",
        category="lines",
        role="train",
        unsafe_prompt=unsafe_prompt,
        safe_prompt=safe_prompt,
        request_index=0,
        writer="w",
    )
    return Candidate(
        pair=pair,
        terms=("bar",),
        unsafe=unsafe,
        safe=safe,
        pair_scores={("twins", "cosine"): cosine},
    )


def drop_of(c: Candidate, *kept: Candidate, rules: FilterRules = STRICT) -> Drop | None:
    held = KeptPairs(rules)
    for other in kept:
        held.add(other)
    return drop_reason(c, rules, held)


def reason_of(c: Candidate, *kept: Candidate, rules: FilterRules = STRICT) -> str | None:
    drop = drop_of(c, *kept, rules=rules)
    return drop.reason if drop else None


TWIN = candidate(name="first")
OTHER_WORDS = {"unsafe_prompt": "one bar under twenty old lamps", "safe_prompt": "twenty old lamps"}

CASES = {
    "image_missing": candidate(unsafe=None),
    "minors": candidate(safe_prompt="a child"),
    "unsafe_image_is_clean": candidate(unsafe=side(0.49)),
    "safe_image_is_flagged": candidate(safe=side(0.5)),
    "safe_prompt_is_flagged": candidate(safe_prompt="a field with a bar"),
    "twins_too_far": candidate(cosine=0.29),
    "twins_too_close": candidate(cosine=0.91),
    "near_duplicate_prompt": candidate(),
    "near_duplicate_image": candidate(**OTHER_WORDS),
}


def test_every_reason_has_a_case():
    assert tuple(CASES) == REASONS


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_a_pair_that_earns_it(reason):
    assert reason_of(CASES[reason], TWIN) == reason


def test_either_prompt_can_speak_of_minors():
    assert reason_of(candidate(unsafe_prompt="a child with a bar")) == "minors"
    assert reason_of(candidate(safe_prompt="a child")) == "minors"


def test_a_good_pair_is_kept():
    assert reason_of(candidate()) is None


def test_the_first_reason_in_order_wins():
    """A pair with every fault, mended one fault at a time, meets the reasons in order."""
    worst = candidate(unsafe=None, safe=side(0.9), safe_prompt="a child with a bar", cosine=0.1)
    mends = (
        ("image_missing", {"unsafe": side(0.1)}),
        ("minors", {"pair": dataclasses.replace(worst.pair, safe_prompt="a man with a bar")}),
        ("unsafe_image_is_clean", {"unsafe": side(0.9)}),
        ("safe_image_is_flagged", {"safe": side(0.1)}),
        ("safe_prompt_is_flagged", {"pair": candidate().pair}),
        ("twins_too_far", {"pair_scores": {("twins", "cosine"): 0.95}}),
        ("twins_too_close", {"pair_scores": {("twins", "cosine"): 0.5}}),
        ("near_duplicate_prompt", {"pair": candidate(**OTHER_WORDS).pair}),
        ("near_duplicate_image", {"unsafe": side(0.9, "f" * 16)}),
    )
    for reason, mend in mends:
        assert reason_of(worst, TWIN) == reason
        worst = dataclasses.replace(worst, **mend)
    assert reason_of(worst, TWIN) is None


def test_any_rule_flags_and_a_missing_score_is_an_error():
    two = (FLAG, FlagRule(scorer="t", key="k", at_least=0.9))
    assert flagged({("s", "k"): 0.1, ("t", "k"): 0.9}, two)
    assert not flagged({("s", "k"): 0.49, ("t", "k"): 0.89}, two)
    with pytest.raises(KeyError):
        flagged({("s", "k"): 0.1}, two)


TWO_FLAGS = dataclasses.replace(STRICT, flags=(FLAG, FlagRule(scorer="t", key="u", at_least=0.7)))
BOTH_SCORES = {("s", "k"): 0.12345, ("t", "u"): 0.4}


@pytest.mark.parametrize(
    ("c", "rules", "detail"),
    [
        (candidate(unsafe=None), STRICT, "unsafe"),
        (candidate(safe=None), STRICT, "safe"),
        (candidate(unsafe=None, safe=None), STRICT, "unsafe and safe"),
        (candidate(safe_prompt="a child"), STRICT, ""),
        (candidate(unsafe=side(0.12345)), STRICT, "s/k 0.123"),
        (
            candidate(unsafe=dataclasses.replace(side(0), scores=BOTH_SCORES)),
            TWO_FLAGS,
            "s/k 0.123, t/u 0.400",
        ),
        (candidate(safe=side(0.98765)), STRICT, "s/k 0.988"),
        (candidate(safe_prompt="a field with a bar"), STRICT, ""),
        (candidate(cosine=0.29), STRICT, "cosine 0.290 under 0.3"),
        (candidate(cosine=0.91), STRICT, "cosine 0.910 over 0.9"),
        (candidate(), STRICT, "of first, Jaccard 1.000"),
        (candidate(**OTHER_WORDS), STRICT, "of first"),
    ],
)
def test_a_drop_shows_what_decided(c, rules, detail):
    drop = drop_of(c, TWIN, rules=rules)
    assert drop
    assert drop.detail == detail


@pytest.mark.parametrize(
    "c",
    [
        pytest.param(candidate(unsafe=side(0.5)), id="flagged at the threshold"),
        pytest.param(candidate(cosine=0.3), id="the smallest cosine"),
        pytest.param(candidate(cosine=0.9), id="the largest cosine"),
    ],
)
def test_a_value_at_its_limit_is_kept(c):
    assert reason_of(c) is None


@pytest.mark.parametrize(("bits", "reason"), [(2, "near_duplicate_image"), (3, None)])
def test_both_images_within_the_distance_are_one(bits, reason):
    """Distance 2 is allowed to count as the same, 3 is not; 0x3 has two bits, 0x7 three."""
    phash = f"{(1 << bits) - 1:016x}"
    other = candidate(side(0.9, phash), side(0.1, phash), **OTHER_WORDS)
    assert reason_of(other, TWIN) == reason


@pytest.mark.parametrize("which", ["unsafe", "safe"])
def test_one_near_image_of_two_is_no_duplicate(which):
    """The other side's image is far: 64 bits."""
    other = candidate(**OTHER_WORDS)
    far = dataclasses.replace(getattr(other, which), phash="f" * 16)
    assert reason_of(dataclasses.replace(other, **{which: far}), TWIN) is None


@pytest.mark.parametrize("which", ["unsafe", "safe"])
def test_a_pair_without_images_is_no_duplicate_of_any_image(which):
    whole, half = candidate(**OTHER_WORDS), candidate(**OTHER_WORDS, **{which: None})
    with_half, with_whole = KeptPairs(STRICT), KeptPairs(STRICT)
    with_half.add(dataclasses.replace(TWIN, **{which: None}))
    with_whole.add(TWIN)
    assert with_half.drop(whole) is None
    assert with_whole.drop(half) is None
    assert with_whole.drop(whole) == Drop("near_duplicate_image", "of first")


LEFT_OUT = {
    "twins_too_far": ("min_twin_cosine", candidate(cosine=-1.0)),
    "twins_too_close": ("max_twin_cosine", candidate(cosine=1.0)),
    "near_duplicate_prompt": ("max_prompt_jaccard", candidate(unsafe=side(0.9, "f" * 16))),
    "near_duplicate_image": ("max_phash_distance", candidate(**OTHER_WORDS)),
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_a_bound_of_none_is_not_tested(reason):
    bound, c = LEFT_OUT[reason]
    kept = () if reason.startswith("twins") else (TWIN,)
    assert reason_of(c, *kept) == reason
    assert reason_of(c, *kept, rules=dataclasses.replace(STRICT, **{bound: None})) is None


def test_without_bounds_on_twins_their_score_is_not_asked_for():
    rules = dataclasses.replace(STRICT, min_twin_cosine=None, max_twin_cosine=None)
    c = dataclasses.replace(candidate(), pair_scores={})
    assert reason_of(c, rules=rules) is None
    for bound in ("min_twin_cosine", "max_twin_cosine"):
        with pytest.raises(KeyError):
            reason_of(c, rules=dataclasses.replace(rules, **{bound: 0.5}))


@pytest.mark.parametrize(
    "change",
    [
        {"min_kept": 0},
        {"min_twin_cosine": -1.0},
        {"min_twin_cosine": 1.0},
        {"max_twin_cosine": -1.0},
        {"max_twin_cosine": 1.0},
        {"max_phash_distance": 0},
        {"max_phash_distance": 64},
        {"max_prompt_jaccard": 0.0},
        {"max_prompt_jaccard": 1.0},
    ],
)
def test_the_ends_of_a_range_are_allowed(change):
    (field, value) = next(iter(change.items()))
    assert getattr(dataclasses.replace(STRICT, **change), field) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flags": ()}, "flags must hold at least one rule"),
        ({"min_kept": -1}, "min_kept must not be negative, got -1"),
        ({"min_twin_cosine": 1.01}, r"min_twin_cosine must be in \[-1, 1\], got 1.01"),
        ({"min_twin_cosine": -1.01}, r"min_twin_cosine must be in \[-1, 1\], got -1.01"),
        ({"max_twin_cosine": 1.01}, r"max_twin_cosine must be in \[-1, 1\], got 1.01"),
        ({"max_phash_distance": -1}, r"max_phash_distance must be in \[0, 64\], got -1"),
        ({"max_phash_distance": 65}, r"max_phash_distance must be in \[0, 64\], got 65"),
        ({"max_prompt_jaccard": -0.01}, r"max_prompt_jaccard must be in \[0, 1\], got -0.01"),
        ({"max_prompt_jaccard": 1.01}, r"max_prompt_jaccard must be in \[0, 1\], got 1.01"),
    ],
)
def test_wrong_rules_name_their_field_and_the_value(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        dataclasses.replace(STRICT, **change)


def test_a_threshold_of_another_version_is_a_fault_and_one_of_no_version_is_not():
    """A scorer that gave no score here cannot be of another version."""
    rule = FlagRule(scorer="s", key="k", at_least=0.25, version="1")
    without = dataclasses.replace(rule, version=None)
    absent = dataclasses.replace(rule, scorer="t")
    assert version_faults([rule, without, absent], {"s": "1"}) == []
    assert version_faults([rule, without, absent], {"s": "2"}) == [
        "s/k at least 0.25 was calibrated with version 1, and the scores are of version 2: "
        "calibrate again"
    ]
