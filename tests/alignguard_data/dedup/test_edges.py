"""Near-duplicate edges: each kind, and independence of the order of updates."""

import itertools
import random

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignguard_data.dedup import edges as near_edges
from alignguard_data.dedup.edges import Edge, Limits, Measured, NearEdges, Part
from alignguard_data.dedup.store import edges_between
from tests.alignguard_data.dedup.near_rows import PHASHES, AngleEmbedder, part, row

LIMITS = Limits(max_prompt_jaccard=0.5, max_phash_distance=4, max_semantic_cosine=0.99)
FAR = ("0123456789abcdef", "fedcba9876543210")


def kinds(one: Measured, other: Measured, limits: Limits = LIMITS) -> dict[str, float]:
    found = edges_between([part("p", one, other)], limits, AngleEmbedder())
    assert all((edge.one, edge.other) == ("a", "b") for edge in found)
    return {edge.kind: edge.value for edge in found}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("red bar at 10",), ("Red  BAR at 10",), {"exact": 1, "prompt": 1, "semantic": 1}),
        (("red bar", "same"), ("blue tick", "Same"), {"caption": 1}),
        (("red bar", "x"), ("blue tick", "Red Bar"), {"caption": 1}),
        (("red bar’s", "x"), ("re\u200bd ｂａｒ's", "y"), {"exact": 1, "prompt": 1}),
        # 4 of 10 three-word runs are shared.
        (("a b c d e f g at 0",), ("a b c d e f x at 90",), {"prompt": 4 / 10}),
        (("red bar at 10",), ("blue tick at 17",), {"semantic": np.cos(np.radians(7))}),
        (("red bar at 10",), ("blue tick at 19",), {}),
    ],
)
def test_prompts_that_are_equal_near_or_of_one_meaning(one, other, expected):
    limits = Limits(max_prompt_jaccard=0.39, max_semantic_cosine=0.99)
    found = kinds(row("a", *one), row("b", *other), limits)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((PHASHES[1], PHASHES[0]), {"image": 4}),
        ((PHASHES[1], PHASHES[3]), {"one_image": 4}),
        ((PHASHES[3], PHASHES[0]), {"one_image": 0}),  # the safe image has the very same hash
        ((PHASHES[3], PHASHES[1]), {}),  # safe scenes may be alike, not the same
        ((PHASHES[2], PHASHES[1]), {}),
        (("", ""), {}),  # an evaluation prompt has no image
    ],
)
def test_images_within_the_distance(other, expected):
    one = row("a", "red bar", phashes=(PHASHES[0], PHASHES[0]))
    two = row("b", "blue tick", phashes=other if other[0] else None)
    assert kinds(one, two, Limits(max_phash_distance=4)) == expected


def test_a_limit_of_none_is_not_tested():
    same = ("a red bar at 10",)
    assert kinds(row("a", *same, phashes=FAR), row("b", *same, phashes=FAR), Limits()) == {
        "exact": 1.0
    }


def brute_force(rows: list[Measured], limits: Limits) -> list[Edge]:
    """Every pair looked at, with none of the code under test."""
    found = []
    for a, b in itertools.combinations(sorted(rows, key=lambda r: r.pair_id), 2):
        texts = [[" ".join(t.lower().split()) for t in r.captions] for r in (a, b)]
        if texts[0][0] == texts[1][0]:
            found.append(Edge(a.pair_id, b.pair_id, "exact", 1.0))
        elif set(texts[0]) & set(texts[1]):
            found.append(Edge(a.pair_id, b.pair_id, "caption", 1.0))
        runs = []
        for text in (texts[0][0], texts[1][0]):
            words = text.split()
            runs.append({tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))})
        near = len(runs[0] & runs[1]) / len(runs[0] | runs[1])
        if near > limits.max_prompt_jaccard:
            found.append(Edge(a.pair_id, b.pair_id, "prompt", near))
        one, two = AngleEmbedder().embed([a.captions[0], b.captions[0]]).astype(np.float64)
        if (cosine := round(float(one @ two), 6)) > limits.max_semantic_cosine:
            found.append(Edge(a.pair_id, b.pair_id, "semantic", cosine))
        if a.unsafe_phash and b.unsafe_phash:
            found += _image_edge(a, b, limits.max_phash_distance)
    return sorted(found)


def _image_edge(a: Measured, b: Measured, limit: int) -> list[Edge]:
    unsafe = (int(a.unsafe_phash, 16) ^ int(b.unsafe_phash, 16)).bit_count()
    safe = (int(a.safe_phash, 16) ^ int(b.safe_phash, 16)).bit_count()
    if max(unsafe, safe) <= limit:
        return [Edge(a.pair_id, b.pair_id, "image", max(unsafe, safe))]
    if unsafe <= limit or safe == 0:
        return [Edge(a.pair_id, b.pair_id, "one_image", unsafe if unsafe <= limit else 0)]
    return []


WORDS = st.sampled_from(["red", "blue", "bar", "Bar", "tick", "at 10", "at 12", "at 40"])
PROMPTS = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
HASHES = st.integers(0, 3).flatmap(
    lambda first: st.integers(0, 2**7 - 1).map(lambda low: f"{(first << 60) | low:016x}")
)
ROWS = st.lists(
    st.tuples(PROMPTS, PROMPTS, st.none() | st.tuples(HASHES, HASHES)), max_size=12
).map(
    lambda drawn: [
        row(f"{i:02d}", unsafe, safe, images) for i, (unsafe, safe, images) in enumerate(drawn)
    ]
)
SEARCH = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SEARCH
@given(rows=ROWS, distance=st.sampled_from([0, 3, 4, 64]))
def test_edges_are_those_of_a_brute_force(rows, distance):
    limits = Limits(max_prompt_jaccard=0.5, max_phash_distance=distance, max_semantic_cosine=0.99)
    assert edges_between([part("p", *rows)], limits, AngleEmbedder()) == brute_force(rows, limits)


@SEARCH
@given(rows=ROWS, seed=st.integers(0, 99), batch=st.sampled_from([1, 3, 4096]))
def test_any_history_gives_the_edges_of_a_fresh_start(rows, seed, batch):
    """Rows come and go in random order, in random parts; a few stay away in the end."""
    drawn = random.Random(seed)
    final: list[Part] = []
    with duckdb.connect() as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_edges, "ROWS_AT_ONCE", batch)
        store = NearEdges(connection, LIMITS, AngleEmbedder())
        for _ in range(3):
            some = drawn.sample(rows, drawn.randint(0, len(rows)))
            cut = drawn.randint(0, len(some))
            final = [part("one", *some[:cut]), part("two", *some[cut:])]
            store.sync(final)
        assert store.edges() == edges_between(final, LIMITS, AngleEmbedder())


@pytest.mark.parametrize(
    "change",
    [{"max_prompt_jaccard": 0.9}, {"max_phash_distance": 0}, {"max_semantic_cosine": 0.5},
     {"max_semantic_cosine": None}, {"max_prompt_jaccard": None}],
)  # fmt: skip
def test_another_limit_searches_its_kind_again(change):
    """The same connection with other limits gives what a fresh start gives with them."""
    rows = [
        row(f"{i}", f"a b c d e {i} at {5 * i}", phashes=(PHASHES[i % 3], PHASHES[0]))
        for i in range(6)
    ]
    parts = [part("p", *rows)]
    other = Limits(
        **{"max_prompt_jaccard": 0.3, "max_phash_distance": 4, "max_semantic_cosine": 0.99} | change
    )
    with duckdb.connect() as connection:
        NearEdges(connection, LIMITS, AngleEmbedder()).sync(parts)
        store = NearEdges(connection, other, AngleEmbedder())
        store.sync(parts)
        assert store.edges() == edges_between(parts, other, AngleEmbedder())


def test_only_new_rows_are_read_embedded_and_compared():
    rows = [row(f"{i}", f"prompt {i} at {i}", phashes=FAR) for i in range(20)]
    reads = []

    def counted(name: str, *some: Measured) -> Part:
        plain = part(name, *some)
        return Part(name=name, content_id=plain.content_id, rows=lambda: reads.append(name) or some)

    embedder = AngleEmbedder()
    with duckdb.connect() as connection:
        store = NearEdges(connection, LIMITS, embedder)
        store.sync([counted("old", *rows[:18])])
        embedder.asked.clear()
        store.sync([counted("old", *rows[:18]), counted("new", *rows[18:])])
        assert store.compared == {"captions": 2, "bands": 2, "pieces": 2, "meanings": 2}
        assert reads == ["old", "new"]
        assert set(embedder.asked) == {"prompt 18 at 18", "prompt 19 at 19"}


def test_of_a_changed_part_only_changed_rows_are_compared():
    """One of three pairs was rendered again: its hash differs."""
    rows = [row(f"{i}", f"prompt {i}", phashes=FAR) for i in range(3)]
    with duckdb.connect() as connection:
        store = NearEdges(connection, Limits(max_phash_distance=4))
        store.sync([part("p", *rows)])
        store.sync([part("p", *rows[:2], row("2", "prompt 2", phashes=(PHASHES[0], FAR[1])))])
        assert store.compared == {"captions": 1, "pieces": 1}
        assert {(e.one, e.other, e.kind) for e in store.edges()} == {
            ("0", "1", "image"),
            ("0", "2", "one_image"),
            ("1", "2", "one_image"),
        }


def test_another_limit_embeds_nothing_again_and_another_embedder_everything():
    parts = [part("p", *(row(f"{i}", f"prompt at {i}") for i in range(4)))]
    with duckdb.connect() as connection:
        NearEdges(connection, Limits(max_semantic_cosine=0.9), AngleEmbedder()).sync(parts)
        same, other = AngleEmbedder(), AngleEmbedder(version="2")
        NearEdges(connection, Limits(max_semantic_cosine=0.5), same).sync(parts)
        NearEdges(connection, Limits(max_semantic_cosine=0.5), other).sync(parts)
    assert (len(same.asked), len(other.asked)) == (0, 4)


def test_a_cosine_limit_needs_an_embedder():
    with pytest.raises(ValueError, match="needs an embedder"):
        edges_between([], Limits(max_semantic_cosine=0.9))
