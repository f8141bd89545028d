"""Intervals cover what they promise, over a grid of shares; more never gives a lower bound; and a
few are worked out by hand or by another method."""

from functools import cache

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from alignguard_train.intervals import (
    Bootstrap,
    mean_interval,
    over_trainings,
    paired_difference,
    tango,
    two_way_interval,
    wilson,
)

HOW = Bootstrap(resamples=2000, seed="test")
SHARES = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97, 0.999)
SIZES = (1, 5, 10, 40, 130, 500)


def prompts(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


@cache
def shares_of(n: int) -> tuple[np.ndarray, np.ndarray]:
    found = [
        mean_interval((np.arange(n) < count).astype(float), prompts(n), HOW, share=True)
        for count in range(n + 1)
    ]
    return np.array([one.low for one in found]), np.array([one.high for one in found])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("p", SHARES)
def test_at_least_93_of_100_intervals_of_a_share_hold_it(p, n):
    """Exactly: the binomial probability of the counts whose interval holds p."""
    low, high = shares_of(n)
    held = (low <= p) & (p <= high)
    assert stats.binom.pmf(np.arange(n + 1), n, p)[held].sum() >= 0.93


@pytest.mark.parametrize("n", SIZES)
def test_one_more_flag_lowers_no_bound(n):
    low, high = shares_of(n)
    assert (np.diff(low) >= 0).all() and (np.diff(high) >= 0).all()
    assert low[0] == 0 and high[-1] == 1 and (high > low).all()


@cache
def differences_of(n: int) -> dict[tuple[int, int], tuple[float, float]]:
    """All counts at n = 10 and 40; at 130 those of up to 24 prompts that differ."""
    most = n if n < 100 else 24
    return {
        (more, fewer): tango(more, fewer, n)
        for more in range(most + 1)
        for fewer in range(most + 1 - more)
    }


@pytest.mark.parametrize("n", [10, 40, 130])
@pytest.mark.parametrize("differing", [0.002, 0.01, 0.03, 0.06])
@pytest.mark.parametrize("to_one_side", [0.0, 0.25, 0.5, 0.9])
def test_at_least_93_of_100_intervals_of_a_paired_difference_hold_it(n, differing, to_one_side):
    """Exactly, by the multinomial; ``differing`` of the prompts differ, so many to one side."""
    up, down = differing * to_one_side, differing * (1 - to_one_side)
    held = sum(
        stats.multinomial.pmf([more, fewer, n - more - fewer], n, [up, down, 1 - up - down])
        for (more, fewer), (low, high) in differences_of(n).items()
        if low <= up - down <= high
    )
    assert held >= 0.93


@pytest.mark.parametrize("n", [10, 40, 130])
def test_one_more_prompt_that_differs_lowers_no_bound(n):
    found = differences_of(n)
    for (more, fewer), (low, high) in found.items():
        assert low < (more - fewer) / n or fewer == n
        assert high > (more - fewer) / n or more == n
        if (more + 1, fewer) in found:
            assert found[more + 1, fewer][0] >= low and found[more + 1, fewer][1] >= high


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_prompts_that_all_say_the_same_of_two_adapters_leave_a_width(value):
    """Wilson's bound z^2 / (n + z^2) where none differs; twice as far from 1 where all do."""
    one, other = np.full(130, max(value, 0.0)), np.full(130, max(-value, 0.0))
    found = paired_difference(one, other, prompts(130), HOW, share=True)
    bound = 1.959964**2 / (130 + 1.959964**2)
    assert found.value == value
    far = {0.0: bound, 1.0: 2 * bound, -1.0: 2 * bound}[value]
    assert found.high - found.low == pytest.approx(2 * far if value == 0 else far, abs=1e-5)


def test_wilson_is_that_of_statsmodels_and_few_get_the_wider_of_two():
    assert wilson(29, 130) == pytest.approx(proportion_confint(29, 130, method="wilson"))
    exact, plain = (proportion_confint(1, 130, method=name) for name in ("beta", "wilson"))
    assert wilson(1, 130) == pytest.approx((exact[0], max(exact[1], plain[1])))
    assert wilson(29, 130, 0.8)[0] > wilson(29, 130)[0]


def test_tango_by_hand_where_only_one_side_differs_by_none():
    """No prompt differs: the score -n d / sqrt(n d (1 - d)) is -z at d = z^2 / (n + z^2)."""
    bound = 1.959964**2 / (20 + 1.959964**2)
    assert tango(0, 0, 20) == (pytest.approx(-bound, abs=1e-6), pytest.approx(bound, abs=1e-6))
    one, back = tango(7, 2, 20), tango(2, 7, 20)
    assert one == (pytest.approx(-back[1]), pytest.approx(-back[0]))


@pytest.mark.parametrize("p", [0.01, 0.03, 0.2])
@pytest.mark.parametrize("alike", [0.1, 0.5])
def test_several_images_a_prompt_cover_as_well(p, alike):
    """Beta-binomial prompts of four images; 200 drawings, so 3.1 standard errors below 0.95."""
    draw, held = np.random.default_rng(1), 0
    names = np.repeat(prompts(40), 4)
    for i in range(200):
        share = draw.beta(p * (1 / alike - 1), (1 - p) * (1 / alike - 1), 40)
        values = (draw.random((40, 4)) < share[:, None]).astype(float).ravel()
        found = mean_interval(values, names, Bootstrap(resamples=200, seed=str(i)), share=True)
        held += found.low <= p <= found.high
    assert held / 200 >= 0.9


def test_images_of_one_prompt_are_resampled_together():
    """Four images each of two prompts, all flagged or none: two independent facts, not eight, so
    the interval must reach from 0 to 1."""
    values = np.array([1.0] * 4 + [0.0] * 4)
    found = mean_interval(values, ["a"] * 4 + ["b"] * 4, HOW, share=True)
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_a_share_has_a_width_where_all_images_of_several_a_prompt_agree(value):
    values = np.tile([value * 2 if value == 0.25 else value, 0.0 if value == 0.25 else value], 30)
    found = mean_interval(values, np.repeat(prompts(30), 2), HOW, share=True)
    assert found.value == value and 0.05 < found.high - found.low < 0.3


def test_numbers_are_resampled_and_equal_ones_have_no_width():
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    found = mean_interval(values, prompts(400), HOW, share=False)
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx(
        (found.value - half, found.value + half), abs=half / 5
    )
    same = mean_interval(np.full(5, 0.25), prompts(5), HOW, share=False)
    assert (same.low, same.value, same.high) == (0.25, 0.25, 0.25)


def test_equal_seeds_give_equal_intervals_and_others_differ():
    values = np.random.default_rng(0).random(40)
    one, same = (mean_interval(values, prompts(40), HOW, share=False) for _ in range(2))
    other = mean_interval(values, prompts(40), Bootstrap(resamples=2000, seed="o"), share=False)
    assert one == same
    assert (one.low, one.high) != (other.low, other.high)


def test_pairing_takes_out_what_makes_some_prompts_hard():
    """Two adapters that fail on the same 50 of 100 prompts, one on 7 more: each alone has an
    interval about 0.2 wide, their difference one of about half of that, above 0."""
    hard = np.arange(100) < 50
    one, other = (np.arange(100) < 57).astype(float), hard.astype(float)
    alone = mean_interval(one, prompts(100), HOW, share=True)
    found = paired_difference(one, other, prompts(100), HOW, share=True)
    assert found.value == pytest.approx(0.07) and found.n == 100
    assert found.low > 0
    assert found.high - found.low < 0.6 * (alone.high - alone.low)
    back = paired_difference(other, one, prompts(100), HOW, share=True)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_trainings_vary_as_seeds_and_prompts_together():
    """A value that is the training's plus the prompt's own: both variances of the mean add up."""
    rng = np.random.default_rng(1)
    of_training, of_prompt = rng.normal(size=(30, 1)), rng.normal(size=(1, 60))
    table = of_training + of_prompt
    found = over_trainings(table, "number").interval()
    error = np.sqrt(of_training.var(ddof=1) / 30 + of_prompt.var(ddof=1) / 60)
    assert found.value == pytest.approx(table.mean()) and found.n == 60
    assert found.high - found.value == pytest.approx(2.0 * error, rel=0.05)


def test_with_one_prompt_that_all_share_it_is_the_t_interval_of_the_seeds():
    """Prompts that agree: the mean of 3 seeds with t of 2 degrees of freedom, 4.303."""
    table = np.repeat([[1.0], [2.0], [4.0]], 50, axis=1)
    found = over_trainings(table, "number").interval()
    half = stats.t.ppf(0.975, 2) * np.std([1, 2, 4], ddof=1) / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((7 / 3 - half, 7 / 3 + half))


@pytest.mark.parametrize("trainings", [2, 3, 4, 5, 8])
@pytest.mark.parametrize(("of_seeds", "of_prompts"), [(0.0, 0.0), (1.0, 0.0), (0.5, 1.0)])
@pytest.mark.parametrize("middle", [-4.0, -2.0, 0.0])
def test_at_least_93_of_100_intervals_over_trainings_hold(trainings, of_seeds, of_prompts, middle):
    """Logits with a part of the seed's and one of the prompt's; 300 drawings of 60 prompts."""
    rng = np.random.default_rng(trainings)
    logits = middle + of_seeds * rng.normal(size=10**5) + of_prompts * rng.normal(size=10**5)
    truth, held = float((1 / (1 + np.exp(-logits))).mean()), 0
    for _ in range(300):
        own = of_seeds * rng.normal(size=(trainings, 1)) + of_prompts * rng.normal(size=(1, 60))
        table = (rng.random((trainings, 60)) < 1 / (1 + np.exp(-middle - own))).astype(float)
        found = two_way_interval(table, Bootstrap(), kind="share")
        held += found.low <= truth <= found.high
    assert held / 300 >= 0.93


def test_two_trainings_that_disagree_are_no_evidence_however_many_prompts():
    table = np.array([[1.0] * 500, [-1.0] * 500])
    found = two_way_interval(table, Bootstrap(), kind="difference")
    assert (found.low, found.value, found.high) == (-1, 0, 1)


@pytest.mark.parametrize("rows", [1, 4])
def test_trainings_that_say_all_the_same_leave_prompts_alone(rows):
    """None of 168 flagged, in each training: the bound is that of 168 prompts, not of 4 x 168."""
    found = two_way_interval(np.zeros((rows, 168)), Bootstrap(), kind="share")
    assert (found.low, found.high) == wilson(0, 168)
    same = two_way_interval(np.zeros((rows, 168)), Bootstrap(), kind="difference")
    assert (same.low, same.high) == tango(0, 0, 168)


def test_one_image_more_in_one_of_five_trainings_lowers_no_bound():
    found = []
    for count in range(6):
        table = np.zeros((5, 130))
        table[0, :count] = 1
        found.append(two_way_interval(table, Bootstrap(), kind="share"))
    assert [one.low for one in found] == [0] * 6
    highs = [one.high for one in found]
    assert highs == sorted(highs)


def test_claims_of_a_mean_have_the_ps_of_students_t():
    """Seeds at 1, 2, 4: t = (7/3 - 1) / 0.882 = 1.512 with 2 degrees of freedom."""
    found = over_trainings(np.repeat([[1.0], [2.0], [4.0]], 50, axis=1), "number")
    t = (7 / 3 - 1) / (np.std([1, 2, 4], ddof=1) / np.sqrt(3))
    assert found.p_above(1) == pytest.approx(stats.t.sf(t, 2))
    assert found.p_below(1) == pytest.approx(stats.t.cdf(t, 2))
    assert over_trainings(np.zeros((3, 9)), "number").p_above(0) == 1


@pytest.mark.parametrize("table", [np.zeros((1, 5)), np.zeros((3, 0))])
def test_a_single_training_says_nothing_of_others(table):
    with pytest.raises(ValueError, match="need 2 trainings and a prompt"):
        over_trainings(table, "share")
