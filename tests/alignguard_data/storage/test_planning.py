"""Reasons and estimates of a dry run, on rooms that are filled for real."""

import dataclasses

import pytest

from alignguard_data.pairs import room as pairs
from alignguard_data.prompts import room as prompts
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.planning import DAMAGED, NEVER_MADE, estimate, why
from tests.alignguard_data.tiny_rooms import RULES, WRITING, TinyRooms, TinyWriter

KEY = "lines.bar"


@pytest.fixture
def made(rooms) -> TinyRooms:
    return rooms.fill("pairs")


def pairs_spec(rooms: TinyRooms, **changes: object):
    rules = dataclasses.replace(RULES, **changes)
    return pairs.spec(rooms.data, rooms.taxonomy.concept(KEY), rules)


def test_what_is_up_to_date_has_no_reason(made):
    assert why(pairs_spec(made)) == []


def test_what_was_never_made_says_so(rooms):
    rooms.fill("scores")
    assert why(pairs_spec(rooms)) == [NEVER_MADE]


def test_a_changed_threshold_is_named_old_and_new(made):
    assert why(pairs_spec(made, max_prompt_jaccard=0.5)) == ["max_prompt_jaccard: 0.95 -> 0.5"]


def test_a_changed_model_is_named_with_both_revisions(made):
    concept = made.taxonomy.concept(KEY)
    spec = prompts.spec(made.data, concept, TinyWriter(revision="2"), WRITING)
    assert why(spec) == ["model tiny-writer: 1 -> 2"]


def test_a_changed_input_is_named(made):
    concept = dataclasses.replace(made.taxonomy.concept(KEY), terms=("bar", "rod"))
    spec = prompts.spec(made.data, concept, TinyWriter(), WRITING)
    assert why(spec) == ["input concept changed"]


def test_damage_is_a_reason(made):
    spec = pairs_spec(made)
    file = manifests.require(spec.folder).files[0]
    (spec.folder / file.name).unlink()
    assert why(spec) == [DAMAGED]
    (spec.folder / "manifest.json").write_text("{")
    assert why(spec) == [DAMAGED]


def test_costs_are_partitions_times_the_median(made):
    """Seconds 1, 2 and 9: the median is 2, so five partitions take 10."""
    one = manifests.require(made.data.partition("pairs", KEY))
    three = [dataclasses.replace(one, seconds=s) for s in (9.0, 1.0, 2.0)]
    cost = estimate(5, three)
    assert cost.seconds == 10.0
    assert cost.bytes == 5 * sum(file.bytes for file in one.files)
    assert cost.basis == "median of 3 made before"


def test_without_a_basis_it_says_unknown():
    cost = estimate(5, [])
    assert (cost.seconds, cost.bytes) == (None, None)
    assert "unknown" in cost.basis
