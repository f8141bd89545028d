"""Which rows give way, and the leak report: from edges written by hand."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignguard_data.dedup.decide import decide, leak_kinds, leak_report, leaks, repeats
from alignguard_data.dedup.edges import Edge, Limits


def names(rows) -> dict[str, tuple[str, str]]:
    return {row.pair_id: (row.reason, row.of) for row in rows}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("exact", "duplicate_prompt"),
        ("prompt", "near_duplicate_prompt"),
        ("image", "near_duplicate_image"),
        ("semantic", "semantic_near_duplicate"),
    ],
)
def test_within_a_split_the_smallest_id_stays(kind, reason):
    rows = repeats([Edge("a", "b", kind, 0.9)], ["a", "b", "c"])
    assert names(rows) == {"b": (reason, "a")}


@pytest.mark.parametrize("kind", ["caption", "one_image"])
def test_a_shared_safe_prompt_or_one_near_image_is_no_duplicate_but_a_leak(kind):
    edges = [Edge("a", "b", kind, 1.0)]
    assert repeats(edges, ["a", "b"]) == []
    decision = decide(edges, train=["a"], test=["b"], evaluation=[])
    assert names(decision.leaks) == {"a": ("leaks_into_test", "b")}


def test_a_row_near_a_dropped_row_alone_stays():
    """a-b and b-c: b gives way to a, and then c is near nothing that stays."""
    edges = [Edge("a", "b", "prompt", 0.9), Edge("b", "c", "prompt", 0.9)]
    assert names(repeats(edges, ["a", "b", "c"])) == {"b": ("near_duplicate_prompt", "a")}


def test_the_first_kind_and_then_the_nearest_row_is_named():
    edges = [
        Edge("a", "d", "semantic", 0.99),
        Edge("a", "d", "prompt", 0.85),
        Edge("b", "d", "prompt", 0.95),
        Edge("c", "d", "prompt", 0.95),
    ]
    (row,) = repeats(edges, ["a", "b", "c", "d"])
    assert (row.kind, row.of, row.value) == ("prompt", "b", 0.95)
    nearer = [Edge("a", "c", "image", 4), Edge("b", "c", "image", 1)]
    (row,) = repeats(nearer, ["a", "b", "c"])
    assert (row.of, row.value) == ("b", 1)


@pytest.mark.parametrize("held", ["test", "evaluation"])
@pytest.mark.parametrize(("train", "other"), [("a", "b"), ("b", "a")])
def test_across_splits_the_train_row_is_dropped(held, train, other):
    sides = {"test": [], "evaluation": [], "train": [train]} | {held: [other]}
    decision = decide([Edge("a", "b", "semantic", 0.97)], **sides)
    assert names(decision.leaks) == {train: ("leaks_into_test", other)}
    assert decision.duplicates == ()


def test_test_and_evaluation_rows_do_not_drop_each_other():
    decision = decide([Edge("a", "b", "exact", 1.0)], [], ["a"], ["b"])
    assert decision.reasons == {}


def test_a_row_that_leaks_takes_no_duplicate_with_it():
    """train a leaks; its repeat b does not, so b stays."""
    edges = [Edge("a", "t", "one_image", 3), Edge("a", "b", "image", 2)]
    assert decide(edges, ["a", "b"], ["t"], []).reasons == {"a": "leaks_into_test"}


def test_what_leaks_into_a_dropped_test_row_alone_stays():
    edges = [Edge("s", "t", "exact", 1.0), Edge("a", "t", "prompt", 0.9)]
    assert decide(edges, ["a"], ["s", "t"], []).reasons == {"t": "duplicate_prompt"}


EDGES = st.lists(
    st.builds(
        Edge,
        st.sampled_from("abcd"),
        st.sampled_from("efghi"),
        st.sampled_from(["exact", "caption", "prompt", "image", "one_image", "semantic"]),
        st.sampled_from([0.5, 1.0]),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(edges=EDGES, seed=st.integers(0, 99))
def test_what_remains_has_no_leak_and_no_repeat_in_any_order_of_edges(edges, seed):
    drawn = random.Random(seed)
    homes = {name: drawn.choice(["train", "test", "evaluation"]) for name in "abcdefghi"}
    sides = {
        home: [n for n, h in homes.items() if h == home] for home in ("train", "test", "evaluation")
    }
    decision = decide(edges, **sides)
    shuffled = drawn.sample(edges, len(edges))
    assert decide(shuffled, **sides) == decision
    gone = decision.reasons
    left = {home: [n for n in members if n not in gone] for home, members in sides.items()}
    assert not any(leaks(edges, left["train"], left["test"] + left["evaluation"]).values())
    assert repeats(edges, left["train"]) == repeats(edges, left["test"]) == []
    assert len(gone) == len(decision.leaks) + len(decision.duplicates)
    # Nothing gives way without a row that stays and is near.
    near = {(edge.one, edge.other) for edge in edges}
    for row in itertools.chain(decision.leaks, decision.duplicates):
        assert row.of not in gone
        assert {(row.pair_id, row.of), (row.of, row.pair_id)} & near


def test_the_report_names_rows_values_and_what_was_not_looked_for():
    edges = [Edge("a", "t", "prompt", 0.9), Edge("b", "c", "exact", 1.0)]
    decision = decide(edges, ["a", "b", "c"], ["t"], [])
    concepts = {"a": "x.a", "b": "x.b", "c": "x.c", "t": "x.t"}
    limits = Limits(max_prompt_jaccard=0.8, max_phash_distance=4)
    report = leak_report(decision, dict.fromkeys(leak_kinds(limits), 0), limits, None, concepts)
    assert report["leaks"]["near"] == {
        "dropped": 1,
        "remaining": 0,
        "rows": [{"pair_id": "a", "concept": "x.a", "of": "t", "of_concept": "x.t", "value": 0.9}],
    }
    assert report["leaks"]["semantic"]["remaining"] is None
    assert [kind for kind, found in report["leaks"].items() if found["remaining"] == 0] == [
        "exact",
        "near",
        "image",
    ]
    assert {slug: found["dropped"] for slug, found in report["duplicates"].items()} == {
        "duplicate_prompt": 1,
        "near_duplicate_prompt": 0,
        "near_duplicate_image": 0,
        "semantic_near_duplicate": 0,
    }
