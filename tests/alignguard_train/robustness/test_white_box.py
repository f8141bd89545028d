"""Attacks on the denoiser: what they minimise, against exhaustive search and random tokens."""

from random import Random

import pytest
import torch

from alignguard_train.robustness.attacks.concept_inversion import ConceptInversion, layout_of
from alignguard_train.robustness.attacks.p4d import P4D
from alignguard_train.robustness.attacks.trace import Trace
from alignguard_train.robustness.attacks.unlearn_diff import UnlearnDiffAtk, errors
from alignguard_train.robustness.attacks.white_box import (
    filled,
    noisy,
    prediction_error,
    reference_latents,
    weights_of,
)
from tests.alignguard_train.robustness.small_target import TWINS, SmallTarget, case

CASE = case()


def words(text):
    return SmallTarget().vocabulary.tokenize(text)


def points(target, steps=(100, 300, 500, 700, 900)):
    latents = reference_latents(Trace(target), CASE)
    return noisy(target, latents, steps, torch.Generator().manual_seed(0))


def test_free_places_take_tokens_in_order():
    assert filled((None, 7, None, 8), (1, 2)) == (1, 7, 2, 8)


def test_weights_are_one_hot_but_in_the_free_places_and_pass_gradients_to_them():
    vocabulary = SmallTarget().vocabulary
    layout = (None, *words("red ball"), None)
    free = torch.full((2, len(vocabulary.ordinary)), 0.1, requires_grad=True)
    found = weights_of(vocabulary, layout, free)
    assert found.shape == (1, 4, len(vocabulary.ordinary))
    assert found[0, 1].argmax() == vocabulary.ordinary.index(layout[1])
    assert found[0, 1:3].sum() == 2
    found[0, 3].sum().backward()
    assert free.grad is not None
    assert free.grad.sum(1).tolist() == [0, len(vocabulary.ordinary)]


def test_the_reference_is_the_most_unsafe_image_of_the_undefended_model():
    class Counting(SmallTarget):
        seen = ()

        def render(self, texts, seeds, *, base=False):
            self.seen = (list(seeds), base)
            return super().render(texts, seeds, base=base)

    scores = iter([0.1, 0.9, 0.2])
    target = Counting(reward=lambda text: next(scores))
    latents = reference_latents(Trace(target), CASE, samples=3)
    assert target.seen == ([5, 6, 7], True)
    images = SmallTarget().render(["x"] * 2, [0, 0])
    images[:, 0, 0, 0] = 0
    torch.testing.assert_close(latents, target.latents(images[:1]))


def test_the_error_of_tokens_is_the_mean_over_the_points():
    target = SmallTarget(xl=True)
    given, layout = points(target), (None, *words("red ball"))
    rows = [(one,) for one in target.vocabulary.ordinary[:3]]
    found = errors(target, layout, rows, given)
    for row, error in zip(rows, found, strict=True):
        conditions = target.encode([filled(layout, row)]).repeat(5)
        expected = prediction_error(target, given, conditions).mean().item()
        assert error == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("xl", [False, True])
def test_the_gradient_lies_between_random_tokens_and_the_exhaustive_search(xl):
    target = SmallTarget(xl=xl)
    given, layout = points(target), (None, None, *words(CASE.prompt))
    UnlearnDiffAtk(tokens=2, timesteps=10, iterations=10).search(target, CASE, None, 0)
    tried = [words(text)[:2] for text in target._texts[3:]]  # two references, the prompt
    rng, ordinary = Random(0), target.vocabulary.ordinary
    drawn = [tuple(rng.choices(ordinary, k=2)) for _ in range(100)]
    random = sorted(errors(target, layout, drawn, given))
    found = errors(target, layout, tried, given)
    assert found[-1] < random[20]

    every = [(one, other) for one in ordinary for other in ordinary]
    exact = UnlearnDiffAtk(tokens=2, timesteps=5, exact=True).search(target, CASE, None, 0)
    steps = noisy(
        target,
        reference_latents(Trace(target), CASE),
        [100, 300, 500, 700, 900],
        torch.Generator().manual_seed(0),
    )
    best = sorted(errors(target, layout, every, steps))
    assert best[0] - 1e-4 <= exact.notes["error"] <= best[len(best) // 50]


def test_the_exhaustive_search_shows_its_best_when_the_budget_ends():
    from alignguard_train.robustness.counting import Counted
    from alignguard_train.robustness.protocol import Budget

    target = Counted(SmallTarget(), Budget(unet_forwards=60))
    found = UnlearnDiffAtk(tokens=2, timesteps=2, exact=True).search(target, CASE, None, 0)
    assert found.stop_reason == "budget"
    assert len(found.candidates) == 1


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, [None, 0]),
        (3, [None, 0, 1, 2, None]),
        (4, [None, 0, 1, 2, None, 3]),
        (6, [None, 0, 1, 2, None, 3, 4, 5, None]),
    ],
)
def test_p4d_k_has_a_free_token_before_every_three_and_one_more_than_a_third(length, expected):
    found = P4D(variant="k").layout(range(length), 20)
    assert list(found) == expected
    assert found.count(None) == length // 3 + 1


def test_p4d_n_has_fresh_tokens_only_as_many_as_fit():
    assert P4D().layout(range(3), 10) == (None,) * 10
    assert P4D(tokens=4).layout(range(3), 10) == (None,) * 4


@pytest.mark.parametrize("xl", [False, True])
def test_p4d_finds_tokens_with_which_the_defended_model_predicts_as_the_base(xl):
    target = SmallTarget(xl=xl)
    P4D(tokens=6, steps=120, every_steps=30, samples=1).search(target, CASE, None, 0)
    latents = torch.zeros(1, 2, 4, 4)
    t = torch.tensor([500])
    wanted = target.predict(latents, t, target.encode([words(CASE.prompt)]), base=True)

    def loss(ids):
        found = target.predict(latents, t, target.encode([ids]))
        return (found - wanted).pow(2).mean().item()

    rng = Random(0)
    random = sorted(loss(tuple(rng.choices(target.vocabulary.ordinary, k=6))) for _ in range(100))
    assert loss(words(target._texts[-1])) < random[15]


@pytest.mark.parametrize("xl", [False, True])
def test_concept_inversion_learns_a_token_that_denoises_the_concept(xl):
    target = SmallTarget(xl=xl)
    given, layout = points(target), layout_of(target.vocabulary, CASE)

    def error(steps):
        attack = ConceptInversion(steps=steps, images=2, batch=2)
        weights = attack.prepare(target, [CASE], 0)[CASE.concept]
        found = target.encode_soft(weights_of(target.vocabulary, layout, weights)).repeat(5)
        return prediction_error(target, given, found).mean().item()

    assert error(150) < 0.9 * error(1)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red ball dark zigzag", ["a", "red", "ball", "dark", None]),
        ("zigzag of a zigzag", [None, "of", "a"]),
        ("a red ball", [None, "a", "red", "ball"]),
    ],
)
def test_the_learned_token_takes_the_place_of_the_concept(prompt, expected):
    vocabulary = SmallTarget().vocabulary
    found = layout_of(vocabulary, case(prompt))
    assert [None if i is None else vocabulary.decode([i]) for i in found] == expected


def test_a_held_out_concept_is_learned_from_the_case_and_a_known_one_is_not():
    target, attack = SmallTarget(), ConceptInversion(steps=2, images=2, batch=1)
    prepared = attack.prepare(target, TWINS, 0)
    assert set(prepared) == {"angular.zigzag", "angular.bolt"}
    known = attack.search(target, CASE, prepared, 0)
    other = attack.search(target, case(concept="angular.star"), prepared, 0)
    assert (known.notes["of_other_prompts"], known.counters.unet_backwards) == (1, 0)
    assert (other.notes["of_other_prompts"], other.counters.unet_backwards) == (0, 2)
    assert all(one.conditions is not None for one in (*known.candidates, *other.candidates))
