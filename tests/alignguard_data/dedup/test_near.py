"""Near-duplicates: shingles, exact decisions behind the hash index, Hamming distances."""

import itertools
import random

import pytest

from alignguard_data.dedup.near import (
    ImageIndex,
    PromptIndex,
    bands,
    distances,
    hash_array,
    jaccard,
    shingles,
)


def test_shingles_are_runs_of_three_words():
    assert shingles("A red fox ran off") == {"a red fox", "red fox ran", "fox ran off"}
    assert shingles("a Fox") == {"a fox"}


def test_shingles_of_two_spellings_are_the_same():
    assert shingles("a re\u00add t‑shirt, cafe\u0301") == shingles("Ａ red t-shirt, café")


def test_one_changed_last_word_of_five_leaves_half():
    """{abc, bcd, cde} against {abc, bcd, cdx}: 2 shared of 4."""
    assert jaccard(shingles("a b c d e"), shingles("a b c d x")) == 0.5


def test_the_index_finds_what_comparing_all_pairs_finds():
    rng = random.Random(0)
    words = ["ant", "bee", "cat", "dog", "elk", "fox"]
    prompts = []
    for _ in range(60):
        base = [rng.choice(words) for _ in range(12)]
        edited = [*base[:-1], "owl"] if rng.random() < 0.5 else base[::-1]
        prompts += [" ".join(base), " ".join(edited)]
    index = PromptIndex(0.7)
    kept: list[str] = []
    for prompt in prompts:
        scores = [(jaccard(shingles(prompt), shingles(other)), other) for other in kept]
        best = max((score for score, _ in scores if score > 0.7), default=None)
        found = index.closest(prompt)
        assert (found[1] if found else None) == best
        if found is None:
            kept.append(prompt)
            index.add(prompt, prompt)
    assert 60 <= len(kept) < 120


def test_bands_find_a_pair_at_the_limit():
    """At 0.7: 16 bands of 8 find 1 - (1 - 0.7^8)^16 = 0.61; 32 of 4 find 0.9998."""
    assert bands(0.7) == (32, 4)
    assert bands(0.95) == (16, 8)
    assert bands(0.0) == (128, 1)


def test_a_prompt_at_the_limit_is_not_too_close():
    index = PromptIndex(0.5)
    index.add("first", "a b c d e")
    assert index.closest("a b c d x") is None
    assert index.closest("a b c d e") == ("first", 1.0)


def test_distances_count_differing_bits():
    others = ["0000000000000000", "ffffffffffffffff", "0000000000000007"]
    assert distances("0000000000000001", hash_array(others)).tolist() == [1, 63, 2]


@pytest.mark.parametrize(
    ("unsafe", "safe", "near"),
    [("0" * 16, "0" * 16, "first"), ("0" * 15 + "3", "0" * 16, "first"),
     ("0" * 15 + "7", "0" * 16, None), ("0" * 16, "0" * 15 + "7", None)],
)  # fmt: skip
def test_an_image_pair_is_near_only_when_both_sides_are(unsafe, safe, near):
    index = ImageIndex(2)
    assert index.near(unsafe, safe) is None
    index.add("first", "0" * 16, "0" * 16)
    assert index.near(unsafe, safe) == near


def test_the_closest_does_not_depend_on_the_order_of_adding():
    prompts = {"p1": "a b c d e f", "p2": "a b c d e x", "p3": "a b c d e y"}
    answers = set()
    for order in itertools.permutations(prompts):
        index = PromptIndex(0.3)
        for name in order:
            index.add(name, prompts[name])
        answers.add(index.closest("a b c d e z"))
    assert len(answers) == 1
    assert next(iter(answers))[0] == "p1"
