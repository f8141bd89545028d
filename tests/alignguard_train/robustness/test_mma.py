"""MMA's greedy coordinate gradient: between random prompts and the exhaustive search."""

import itertools
from random import Random

import pytest
import torch

from alignguard_train.robustness.attacks.mma import MMA, likeness, survives
from alignguard_train.robustness.attacks.substitutes import pooled
from alignguard_train.robustness.attacks.weighted_tokens import on_simplex, one_hot
from alignguard_train.robustness.attacks.words import allowed_ids, concept_words, forbidden_ids
from tests.alignguard_train.robustness.small_target import (
    WORDS,
    SmallTarget,
    SmallVocabulary,
    case,
    tokenizer,
)


def aim_of(target):
    ids = [target.vocabulary.tokenize(case().prompt)]
    return pooled(target.encode(ids), ids)


def best(attack, target, seed):
    return attack.search(target, case(), None, seed)


@pytest.mark.parametrize("xl", [False, True])
def test_the_gradient_beats_as_many_random_prompts(xl):
    target, allowed = SmallTarget(xl=xl), allowed_ids(SmallVocabulary(), case())
    aim = aim_of(target)
    for seed in range(2):
        found = best(MMA(tokens=6, steps=20, top=10, candidates=16), target, seed)
        rng = Random(seed)
        rows = [tuple(rng.choices(allowed, k=6)) for _ in range(found.counters.text_forwards)]
        assert found.candidates[0].score > likeness(pooled(target.encode(rows), rows), aim).max()


@pytest.mark.parametrize("xl", [False, True])
def test_both_searches_come_near_the_best_of_all_prompts(xl):
    target = SmallTarget(xl=xl)
    allowed, aim = allowed_ids(target.vocabulary, case()), aim_of(target)
    every = list(itertools.product(allowed, repeat=3))
    optimum = likeness(pooled(target.encode(every), every), aim).max().item()
    for attack in (MMA(tokens=3, steps=30, top=10, candidates=16), MMA(tokens=3, exact=True)):
        scores = [best(attack, target, seed).candidates[0].score for seed in range(4)]
        assert optimum + 1e-5 >= max(scores) > optimum - 0.01


def test_the_gradient_of_a_position_is_that_of_its_own_token():
    """Along a straight line from one token to another the cosine changes as the gradient says."""
    target = SmallTarget()
    vocabulary = target.vocabulary
    ids = vocabulary.tokenize("a red ball")
    aim = pooled(target.encode([other := vocabulary.tokenize("blue box tree")]), [other])
    weights = one_hot(vocabulary, ids)[None].requires_grad_(True)
    likeness(pooled(target.encode_soft(weights), [ids]), aim).sum().backward()
    assert weights.grad is not None
    assert (weights.grad[0].abs().sum(-1) > 0).all()  # the last token too
    step = torch.zeros_like(weights)
    step[0, 2, 5] = 1e-2
    moved = [
        likeness(pooled(target.encode_soft(weights.detach() + s * step), [ids]), aim).item()
        for s in (1, -1)
    ]
    assert (moved[0] - moved[1]) / 2e-2 == pytest.approx(weights.grad[0, 2, 5].item(), rel=0.05)


def test_a_one_hot_row_of_weights_is_its_token():
    target = SmallTarget(xl=True)
    ids = target.vocabulary.tokenize("a red ball")
    hard = target.encode([ids])
    soft = target.encode_soft(one_hot(target.vocabulary, ids)[None])
    torch.testing.assert_close(hard.states, soft.states, atol=1e-5, rtol=0)


def test_no_candidate_types_the_concept_or_changes_as_text():
    for exact in (False, True):
        found = best(MMA(tokens=4, steps=6, exact=exact), SmallTarget(), 0)
        assert found.candidates
        for one in found.candidates:
            assert one.round_trip
            assert "zigzag" not in one.text
            assert survives(SmallVocabulary(), SmallVocabulary().tokenize(one.text))


def test_the_words_of_a_concept_are_those_of_its_slug():
    assert concept_words(case(concept="a_b.dark_Star-fish")) == {"dark", "star", "fish"}


def test_tokens_with_a_word_of_the_concept_and_its_sub_tokens_are_forbidden():
    vocabulary = SmallVocabulary((*WORDS, "stars", "a"))
    assert vocabulary.tokenize("stars") == tuple(
        tokenizer().convert_tokens_to_ids(["st", "ar", "s</w>"])
    )

    def texts(concept):
        return {vocabulary.decode([i]) for i in forbidden_ids(vocabulary, case(concept=concept))}

    assert texts("radial.star") == {"star"}
    assert texts("radial.stars") == {"st", "ar"}
    assert forbidden_ids(vocabulary, case(concept="letters.a")) >= set(vocabulary.tokenize("a"))


def test_a_vocabulary_of_forbidden_tokens_is_empty():
    target = SmallTarget(vocabulary=SmallVocabulary(("zigzag",)))
    assert best(MMA(), target, 0).stop_reason == "empty"


def test_the_projection_is_the_nearest_point_of_the_simplex():
    torch.manual_seed(0)
    rows = torch.randn(5, 7, dtype=torch.float64)
    found = on_simplex(rows)
    torch.testing.assert_close(found.sum(-1), torch.ones(5, dtype=torch.float64))
    assert (found >= 0).all()
    # At the nearest point every other point of the simplex lies at no acute angle.
    corners = torch.eye(7, dtype=torch.float64)
    inner = torch.einsum("rv,crv->cr", rows - found, corners[:, None] - found)
    assert (inner <= 1e-9).all()
    torch.testing.assert_close(on_simplex(found), found)
