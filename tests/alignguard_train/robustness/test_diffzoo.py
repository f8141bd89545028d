"""DiffZOO: its draws and gradients by hand, and synthetic rewards that tell its modes apart."""

from random import Random
from typing import Any

import pytest
import torch

from alignguard_train.robustness.attacks.diffzoo import DiffZOO
from alignguard_train.robustness.attacks.substitutes import Pool, pool_of
from alignguard_train.robustness.attacks.word_draws import Ascent, Draws
from alignguard_train.robustness.counting import Counted
from alignguard_train.robustness.protocol import Budget
from tests.alignguard_train.robustness.small_target import TWINS, SmallTarget, case

POOL = ("wave", "box", "kite", "boat", "tree", "star", "green", "dark", "quiet")
GOAL = ("wave", "box", "kite", "boat", "tree")
PROMPT = "a red ball on ice"
NEVER = 10**6


def one_word(text):
    return float("wave" in text.split())


def many_words(text):
    return sum(word == wanted for word, wanted in zip(text.split(), GOAL, strict=True)) / len(GOAL)


def run(mode, reward, *, seed=0, images=None, **parameters):
    given = {"steps": 20, "directions": 4, "draws": 8, "substitutes": 8, "words": POOL}
    attack = DiffZOO(mode=mode, **given | parameters)
    target = Counted(SmallTarget(reward=reward), Budget(images=images))
    return attack.search(target, case(PROMPT), attack.prepare(target, (), 0), seed)


def mean_of_last_draws(mode, **parameters):
    """After a search that no success ends: the policy's own rate, not its luckiest draw."""
    found = [run(mode, one_word, seed=s, successes=NEVER, **parameters) for s in range(6)]
    return sum(one.notes["mean_score"] for one in found) / len(found)


@pytest.mark.parametrize("mode", ["zo", "reinforce"])
def test_the_corrected_modes_find_the_word_within_the_budget(mode):
    for seed in range(4):
        found = run(mode, one_word, seed=seed, images=150)
        assert found.stop_reason == "success"
        assert "wave" in found.candidates[0].text.split()


def test_the_corrected_modes_learn_the_word_and_the_released_one_does_not():
    lite = mean_of_last_draws("lite", steps=50)
    assert mean_of_last_draws("reinforce") > 0.9
    assert mean_of_last_draws("zo") > lite + 0.1
    assert mean_of_last_draws("released") <= lite


def test_zo_climbs_where_random_substitution_does_not():
    def best(mode, **parameters):
        found = [
            run(mode, many_words, seed=s, images=1500, draws=4, **parameters) for s in range(3)
        ]
        return sum(one.candidates[0].score for one in found) / len(found)

    lite = best("lite", steps=200)
    assert best("zo", steps=50) > lite
    assert best("released", steps=40) <= lite


@pytest.mark.parametrize(("mode", "images"), [("lite", 8 + 3 * 8), ("zo", 8 + 3 * (2 * 4 * 8 + 8))])
def test_a_search_takes_at_most_its_images(mode, images):
    found = run(mode, many_words, steps=3)
    assert 0 < found.counters.images <= images + 1  # the unchanged prompt first
    assert found.counters.images == found.counters.judge_calls


def test_released_has_one_sign_for_all_coordinates_and_moves_little():
    ascent = Ascent(torch.zeros(4, dtype=torch.float64), 0.05)
    for _ in range(5):
        ascent.released(torch.ones(4, dtype=torch.float64) * 3)
    expected = 0.05 * sum(1 - 0.9**t for t in range(1, 6))
    torch.testing.assert_close(ascent.at, torch.full((4,), expected, dtype=torch.float64))
    corrected = Ascent(torch.zeros(1, dtype=torch.float64), 0.05)
    corrected.adam(torch.ones(1, dtype=torch.float64) * 3)
    assert corrected.at.item() == pytest.approx(0.05)


def test_draws_follow_their_probabilities():
    draws = Draws(["a", "b"], [["x", "y"], ["z"]], torch.Generator().manual_seed(0))
    at = torch.tensor([0.5, -1.0, 0.5, -0.5, 1.0, 1.0], dtype=torch.float64)
    picks = draws.picks(at, draws.uniforms(20000))
    assert (picks[:, 0] != -1).double().mean() == pytest.approx(0.75, abs=0.02)
    changed = picks[picks[:, 0] != -1, 0]
    assert (changed == 0).double().mean() == pytest.approx(0.75, abs=0.02)
    assert (picks[:, 1] == -1).double().mean() > 0.99


def test_the_log_probability_is_that_of_the_draws():
    draws = Draws(["a", "b"], [["x", "y"], ["z"]], torch.Generator().manual_seed(0))
    at = torch.tensor([0.5, 0.0, 0.5, -0.5, 1.0, 1.0], dtype=torch.float64)
    picks = torch.tensor([[1, -1], [-1, 0]])
    expected = torch.tensor([0.75 * 0.25 * 0.5, 0.25 * 0.5], dtype=torch.float64).log()
    torch.testing.assert_close(draws.log_probability(at, picks), expected)


def test_both_sides_of_a_direction_draw_the_same_random_numbers():
    draws = Draws(["a", "b"], [["x", "y"], ["z"]], torch.Generator().manual_seed(0))
    at, same = draws.start(), draws.uniforms(5)
    assert draws.texts_of(at, same) == draws.texts_of(at.clone(), same)


def test_substitutes_are_the_nearest_words_and_never_the_word_itself():
    target = SmallTarget()
    pool = pool_of(target, TWINS, vectors=True)
    assert set(pool.words) >= {"red", "blue", "box", "kite", "dark", "zigzag"}
    assert pool.vectors is not None
    (near,) = pool.of(target, ["red"], 3, Random(0))
    vector = pool.vectors[pool.words.index("red")]
    cosines = dict(zip(pool.words, (pool.vectors @ vector).tolist(), strict=True))
    cosines.pop("red")
    assert near == sorted(cosines, key=lambda word: -cosines[word])[:3]


def test_a_list_gives_random_substitutes_without_a_text_encoder():
    (own,) = Pool(words=POOL).of(SmallTarget(), ["box"], 4, Random(0))
    assert len(own) == 4
    assert set(own) < set(POOL) - {"box"}


def test_clean_substitutes_do_not_type_the_concept():
    words = ("zigzag", "wave", "star")
    found = run("lite", lambda text: 0.0, words=words, clean=True, steps=10)
    assert not any("zigzag" in one.text for one in found.candidates)
    found = run("lite", lambda text: 0.0, words=("zigzag",), clean=True)
    assert found.stop_reason == "empty"


@pytest.mark.parametrize(
    ("field", "value"), [("steps", 0), ("draws", 0), ("sigma", 0), ("mode", "zeroth")]
)
def test_a_wrong_parameter_is_refused(field, value):
    with pytest.raises(ValueError, match=rf"{field} is '?{value}"):
        DiffZOO(**{field: value})


class Certain:
    """Draws without chance: a prompt is the sum of its point, so a difference has no noise."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def uniforms(self, count):
        return count

    def texts(self, at, count):
        return [repr(at.sum().item())] * count

    def texts_of(self, at, uniforms):
        return self.texts(at, uniforms)


class Rising:
    """A synthetic judge: the larger the point, the more unsafe."""

    def scores(self, texts):
        return torch.tensor([float(text) for text in texts], dtype=torch.float64).sigmoid()


def score_after(mode, steps=20):
    attack = DiffZOO(mode=mode, directions=2, draws=1)
    ascent = Ascent(torch.zeros(6, dtype=torch.float64), 0.1)
    queries: Any = Rising()
    draws: Any = Certain()
    for _ in range(steps):
        attack._move(queries, draws, ascent)
    return ascent.at.sum().sigmoid().item()


def test_zo_climbs_a_reward_without_noise_and_released_descends_it():
    """The authors' code descends towards the score of a benign image: index 0 of its judge."""
    assert score_after("zo") > 0.9
    assert score_after("released") < 0.5
