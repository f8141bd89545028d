"""The pairs room: sums that hold, what it refuses, and what makes it stale."""

import dataclasses
import re

import pytest

from alignguard_data.contracts.errors import ConfigError, InputMissing, NothingMade
from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.records import DroppedPair, PreferencePair, from_table
from alignguard_data.pairs.room import filter_pairs, read_candidates, spec
from alignguard_data.storage import manifest as manifests
from tests.alignguard_data.tiny_rooms import RULES, TinyGenerator


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


def test_a_rule_about_a_missing_score_is_an_error(filled):
    concept = filled.taxonomy.concepts[0]
    rules = dataclasses.replace(RULES, flags=(FlagRule(scorer="ghost", key="k", at_least=0.5),))
    with pytest.raises(InputMissing, match="ghost/k"):
        read_candidates(filled.data, concept, rules)


def test_without_scores_there_is_nothing_to_filter(rooms):
    rooms.fill("images")
    with pytest.raises(InputMissing, match="scores"):
        spec(rooms.data, rooms.taxonomy.concepts[0], RULES)


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
