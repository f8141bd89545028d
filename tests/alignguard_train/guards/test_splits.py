"""No text, twin or held-out concept is in two parts."""

import itertools

from alignguard_data.contracts.records import Concept
from alignguard_train.guards.splits import (
    IN_ANOTHER_PART,
    NAMES_CONCEPT,
    NAMES_HELD_OUT,
    REPEATED,
    Parts,
    TextPair,
    divide,
    groups_of,
    text_id,
)

SEEN = Concept(key="a.bolt", category="a", name="bolt", split="train", terms=("bolt", "flash"))
OTHER = Concept(key="a.wave", category="a", name="wave", split="train", terms=("wave",))
HELD = Concept(key="a.hook", category="a", name="hook", split="test", terms=("hook", "gaff"))


def pair(number: int, unsafe: str, safe: str, concept: str = "a.bolt") -> TextPair:
    return TextPair(pair_id=f"p{number}", concept=concept, unsafe=unsafe, safe=safe)


def divided(**given: object) -> Parts:
    defaults = {"train": [], "seen": [], "unseen": [], "plain": [], "harmless": []}
    return divide(
        **{**defaults, **given}, concepts=[SEEN, OTHER, HELD], validation_share=0.3, seed=0
    )


def many(count: int) -> list[TextPair]:
    return [pair(i, f"field {i} with a bolt", f"field {i}") for i in range(count)]


def test_no_text_is_in_two_parts_in_any_spelling():
    train = many(60)
    seen = [pair(100 + i, f"Field {i}  with a BOLT", f"field {i}.") for i in range(10)]
    plain = [f"field {i}" for i in range(5, 90)]
    parts = divided(train=train, seen=seen, plain=plain)
    where: dict[str, set[str]] = {}
    for one in parts.prompts:
        where.setdefault(text_id(one.text), set()).add(one.part)
    assert {len(found) for found in where.values()} == {1}
    assert {one.part for one in parts.prompts} == {"train", "calibration", "test"}
    assert parts.dropped[IN_ANOTHER_PART] > 0


def test_twins_stay_together():
    parts = divided(train=many(60))
    by_pair = itertools.groupby(sorted(parts.prompts, key=lambda p: p.pair_id), lambda p: p.pair_id)
    assert all(len({one.part for one in own}) == 1 for _, own in by_pair)
    assert len(parts.pairs("train")) + len(parts.pairs("calibration")) == 60


def test_pairs_that_share_a_text_are_one_group_also_in_a_chain():
    chain = [pair(1, "u1", "s1"), pair(2, "u2", "S1"), pair(3, "U2", "s3"), pair(4, "u4", "s4")]
    group = groups_of(chain)
    assert group["p1"] == group["p2"] == group["p3"] != group["p4"]


def test_a_held_out_concepts_synonym_keeps_a_pair_out_of_training():
    train = [*many(20), pair(90, "a gaff and a bolt", "nothing"), pair(91, "a bolt", "two hooks")]
    parts = divided(train=train)
    assert parts.dropped[NAMES_HELD_OUT] == 2
    assert not [one for one in parts.prompts if one.pair_id in ("p90", "p91")]


def test_a_twin_that_still_names_its_concept_is_no_negative():
    parts = divided(train=[*many(20), pair(90, "a bolt", "flashes on a hill")])
    assert parts.dropped[NAMES_CONCEPT] == 1
    assert [one.unsafe for one in parts.prompts if one.pair_id == "p90"] == [True]


def test_benign_captions_calibrate_once_and_all_parts_get_some():
    captions = [f"caption {i}" for i in range(100)]
    parts = divided(train=many(10), plain=[*captions, *captions], harmless=["bolt: a ball"])
    counted = [one for one in parts.prompts if one.variant == "plain" and one.part != "train"]
    assert len({text_id(one.text) for one in counted}) == len(counted)
    assert parts.dropped[REPEATED] == len(counted)
    assert [one.part for one in parts.prompts if one.variant == "harmless"] == ["test"]
    assert {one.part for one in parts.prompts if one.variant == "plain"} == {
        "train", "calibration", "test",
    }  # fmt: skip


def test_the_division_does_not_depend_on_the_order():
    backwards = divided(train=many(30)[::-1])
    assert set(backwards.prompts) == set(divided(train=many(30)).prompts)
