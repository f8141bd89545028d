"""The pairs room: each reason, their fixed order, and sums that hold."""

import dataclasses
import re

import pytest

from alignguard_data import manifest as manifests
from alignguard_data.errors import ConfigError, InputMissing, NothingMade
from alignguard_data.pair_filter import (
    REASONS,
    Candidate,
    FilterRules,
    FlagRule,
    KeptPairs,
    SideEvidence,
    drop_reason,
    flagged,
)
from alignguard_data.pairs import filter_pairs, read_candidates, spec
from alignguard_data.records import DroppedPair, PreferencePair, PromptPair, from_table
from tests.alignguard_data.tiny_rooms import RULES, TinyGenerator

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


def reason_of(c: Candidate, *kept: Candidate) -> str | None:
    held = KeptPairs(STRICT)
    for other in kept:
        held.add(other)
    drop = drop_reason(c, STRICT, held)
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


def test_kept_and_dropped_sum_to_the_train_pairs(rooms):
    rooms.generator = TinyGenerator(blind_to=frozenset({"bar"}))
    rooms.rules = dataclasses.replace(RULES, min_kept=0)
    rooms.fill("pairs")
    for concept in rooms.taxonomy.concepts:
        prompts = manifests.require(rooms.data.partition("prompts", concept.key))
        pairs = manifests.require(rooms.data.partition("pairs", concept.key))
        assert pairs.rows + sum(pairs.rejected.values()) == prompts.counts["train"]
        if concept.key == "lines.bar":
            assert set(pairs.rejected) == {"unsafe_image_is_clean"}
            table = manifests.read(rooms.data.partition("pairs", concept.key), "dropped")
            assert {d.detail for d in from_table(DroppedPair, table)} == {"ink/share 0.000"}


def test_kept_pairs_name_the_safe_image_as_chosen(filled):
    concept = filled.taxonomy.concepts[0]
    folder = filled.data.partition("pairs", concept.key)
    (first, *_) = from_table(PreferencePair, manifests.read(folder, "kept"))
    images = manifests.read(
        filled.data.partition("images", concept.key), "images", columns=["image_id", "side"]
    )
    sides = {row["image_id"]: row["side"] for row in images.to_pylist()}
    assert (sides[first.chosen_image_id], sides[first.rejected_image_id]) == ("safe", "unsafe")


NONE_PASSES = dataclasses.replace(
    RULES, flags=(FlagRule(scorer="ink", key="share", at_least=0.99),)
)


def test_a_filter_that_drops_all_fails_with_its_reason_and_an_example(filled):
    concept = filled.taxonomy.concepts[0]
    with pytest.raises(
        NothingMade, match=r"pairs lines\.bar: 0 of \d kept pairs; .*is_clean"
    ) as error:
        filter_pairs(filled.data, concept, NONE_PASSES)
    assert re.search(r"for example pair [0-9a-f]{32}: ink/share 0\.\d+$", str(error.value))
    assert spec(filled.data, concept, NONE_PASSES).state() == "empty"
    assert spec(filled.data, concept, RULES).state() == "done", "the old whole stays"


def test_a_new_threshold_needs_no_new_scores(filled):
    concept = filled.taxonomy.concepts[0]
    strict = dataclasses.replace(NONE_PASSES, min_kept=0)
    scores = filled.data.partition("scores", concept.key)
    before = manifests.require(scores)
    assert spec(filled.data, concept, strict).state() == "stale"
    made = filter_pairs(filled.data, concept, strict)
    assert (made.rows, manifests.require(scores)) == (0, before)


def test_a_rule_about_a_score_that_nobody_gives_is_an_error(filled):
    concept = filled.taxonomy.concepts[0]
    rules = dataclasses.replace(RULES, flags=(FlagRule(scorer="ghost", key="k", at_least=0.5),))
    with pytest.raises(InputMissing, match="ghost/k"):
        read_candidates(filled.data, concept, rules)


def test_without_scores_there_is_nothing_to_filter(rooms):
    rooms.fill("images")
    with pytest.raises(InputMissing, match="scores"):
        spec(rooms.data, rooms.taxonomy.concepts[0], RULES)


@pytest.mark.parametrize(
    "change",
    [
        {"flags": ()},
        {"min_twin_cosine": 2.0},
        {"max_phash_distance": 65},
        {"max_prompt_jaccard": -0.1},
    ],
)
def test_wrong_rules_name_their_field(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(RULES, **change)


def test_thresholds_of_another_version_of_their_scorer_are_all_refused(rooms):
    """A threshold belongs to the scorer's version that it was calibrated with."""
    rooms.fill("scores")
    concept = rooms.taxonomy.concepts[0]
    scores = manifests.require(rooms.data.partition("scores", concept.key))
    (flag,) = RULES.flags
    mine = dataclasses.replace(flag, version=scores.models[flag.scorer])
    assert filter_pairs(rooms.data, concept, dataclasses.replace(RULES, flags=(mine,))).rows, (
        "its own version is taken"
    )
    others = [dataclasses.replace(flag, version=version) for version in ("old", "older")]
    with pytest.raises(ConfigError) as caught:
        filter_pairs(rooms.data, concept, dataclasses.replace(RULES, flags=(mine, *others)))
    assert len(caught.value.faults) == 2
    assert "was calibrated with version old," in caught.value.faults[0]
