"""Ring-A-Bell: its concept vector, its distance, and its search between random and exhaustive."""

from random import Random

import pytest
import torch

from alignguard_train.robustness.attacks.concept_vector import concept_vectors
from alignguard_train.robustness.attacks.coordinates import coordinate_search
from alignguard_train.robustness.attacks.ring_a_bell import (
    RingABell,
    RingABellSoft,
    aim_of,
    squared_distance,
)
from alignguard_train.robustness.attacks.trace import Trace, counted
from alignguard_train.robustness.counting import Counted
from alignguard_train.robustness.protocol import Budget
from tests.alignguard_train.robustness.small_target import TWINS, SmallTarget, case

SMALL = RingABell(population=20, generations=30, tokens=4, eta=1.0, elitism=True)


def aim_for(target, attack, one=None):
    prepared = attack.prepare(target, TWINS, 0)
    found = aim_of(Trace(target), one or case(), prepared, attack.eta)
    assert found is not None
    return prepared, found[0]


def test_the_concept_vector_is_the_mean_difference_at_every_position():
    target = SmallTarget(xl=True)
    own = [one for one in TWINS if one.concept == "angular.zigzag"]
    expected = torch.stack([
        target.encode([target.vocabulary.tokenize(one.prompt)]).states[0]
        - target.encode([target.vocabulary.tokenize(one.safe_prompt)]).states[0]
        for one in own
    ]).mean(0)  # fmt: skip
    vector, level, pairs = concept_vectors(counted(target), TWINS).of(case())
    assert (level, pairs) == ("concept", len(own))
    assert vector is not None
    assert vector.states.shape == (1, 12, 24)
    torch.testing.assert_close(vector.states[0], expected)
    assert expected[-1].abs().sum() > 0  # padding too


@pytest.mark.parametrize(
    ("other", "level", "pairs"),
    [
        ({"concept": "angular.chevron"}, "category", 8),
        ({"concept": "radial.star", "category": "radial"}, "all", 8),
    ],
)
def test_a_concept_without_twins_takes_the_nearest_vector(other, level, pairs):
    vectors = concept_vectors(counted(SmallTarget()), TWINS)
    assert vectors.of(case(**other))[1:] == (level, pairs)


def test_cases_without_a_twin_teach_nothing():
    vectors = concept_vectors(counted(SmallTarget()), [case(safe="")])
    assert vectors.of(case()) == (None, "none", 0)
    assert SMALL.search(SmallTarget(), case(), vectors, 0).stop_reason == "empty"


@pytest.mark.parametrize("xl", [False, True])
def test_the_prompt_itself_is_at_distance_zero_without_a_concept(xl):
    target = SmallTarget(xl=xl)
    _, aim = aim_for(target, RingABell(eta=0))
    rows = target.encode([target.vocabulary.tokenize(case().prompt)])
    assert squared_distance(aim, rows).tolist() == [0]


def test_the_distance_of_two_encoders_includes_the_pooled_states():
    target = SmallTarget(xl=True)
    _, aim = aim_for(target, SMALL)
    rows = target.encode([target.vocabulary.tokenize("a blue box")])
    assert rows.pooled is not None
    assert aim.pooled is not None
    expected = (rows.states - aim.states).pow(2).sum() + (rows.pooled - aim.pooled).pow(2).sum()
    torch.testing.assert_close(squared_distance(aim, rows)[0], expected)


@pytest.mark.parametrize("xl", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_search_lies_between_random_prompts_and_the_exhaustive_one(xl, seed):
    target = SmallTarget(xl=xl)
    attack = RingABell(population=40, generations=40, tokens=8, eta=1.0, elitism=True)
    prepared, aim = aim_for(target, attack)
    found = attack.search(target, case(), prepared, seed)
    genetic = -found.candidates[0].score

    rng, ordinary = Random(seed), target.vocabulary.ordinary
    rows = [tuple(rng.choices(ordinary, k=8)) for _ in range(found.counters.text_forwards)]
    assert genetic < squared_distance(aim, target.encode(rows)).min()

    def scores(rows):
        return (-squared_distance(aim, target.encode(rows))).tolist()

    best = max(
        coordinate_search(scores, start, ordinary, sweeps=10)[1] for start in rows[:8]
    )  # fmt: skip
    assert -best <= genetic + 1e-4


def test_the_published_search_may_lose_its_best_and_says_what_it_was():
    target = SmallTarget()
    published = RingABell(population=12, generations=15, tokens=4, eta=1.0)
    prepared, _ = aim_for(target, published)
    results = [published.search(target, case(), prepared, seed) for seed in range(5)]
    assert all(one.candidates[0].score <= one.notes["best_ever"] for one in results)
    assert any(one.candidates[0].score < one.notes["best_ever"] for one in results)


def test_elitism_never_loses_its_best():
    target = SmallTarget()
    prepared, _ = aim_for(target, SMALL)
    for seed in range(5):
        found = SMALL.search(target, case(), prepared, seed)
        assert found.candidates[0].score == found.notes["best_ever"] == found.history[-1]
        assert found.notes["last_generation"] == found.notes["best_ever"]


def test_prompts_have_the_given_tokens_and_their_share_of_padding_is_noted():
    target = SmallTarget()
    prepared, _ = aim_for(target, SMALL)
    found = SMALL.search(target, case(), prepared, 0)
    assert 0 < found.notes["padding_share"] < 1
    for one in found.candidates:
        assert one.round_trip == (len(target.vocabulary.tokenize(one.text)) == 4)


def test_the_soft_form_moves_the_states_by_eta_vectors():
    target, attack = SmallTarget(xl=True), RingABellSoft(eta=2.0)
    prepared = attack.prepare(target, TWINS, 0)
    (one,) = attack.search(target, case(), prepared, 0).candidates
    start = target.encode([target.vocabulary.tokenize(case().prompt)])
    vector = prepared.of(case())[0]
    assert vector is not None
    assert one.conditions is not None
    torch.testing.assert_close(one.conditions.states, start.states + 2 * vector.states)
    assert one.conditions.pooled is not None
    assert one.score == 0.0


def test_a_small_budget_of_preparing_gives_the_vectors_of_what_it_read():
    target = Counted(SmallTarget(), Budget(text_forwards=1))
    assert SMALL.prepare(target, TWINS, 0).of(case())[1] == "none"


@pytest.mark.parametrize("field", ["population", "generations", "tokens"])
def test_a_size_of_zero_is_refused(field):
    with pytest.raises(ValueError, match=f"{field} is 0"):
        RingABell(**{field: 0})
