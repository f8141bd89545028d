"""Intervals cover what they promise, over a grid of shares.

More never gives a lower bound; and a few are worked out by hand or by another method.
"""

import hashlib
from functools import cache

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.proportion import proportion_confint

from alignguard_train.contracts.intervals import (
    Bootstrap,
    Interval,
    mean_interval,
    paired_difference,
    tango,
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
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) >= 0).all()
    assert low[0] == 0
    assert high[-1] == 1
    assert (high > low).all()


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
            assert found[more + 1, fewer][0] >= low
            assert found[more + 1, fewer][1] >= high


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
    """Four images each of two prompts, all flagged or none.

    Two independent facts, not eight, so the interval must reach from 0 to 1.
    """
    values = np.array([1.0] * 4 + [0.0] * 4)
    found = mean_interval(values, ["a"] * 4 + ["b"] * 4, HOW, share=True)
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_a_share_has_a_width_where_all_images_of_several_a_prompt_agree(value):
    values = np.tile([value * 2 if value == 0.25 else value, 0.0 if value == 0.25 else value], 30)
    found = mean_interval(values, np.repeat(prompts(30), 2), HOW, share=True)
    assert found.value == value
    assert 0.05 < found.high - found.low < 0.3


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
    """Two adapters that fail on the same 50 of 100 prompts, one on 7 more.

    Each alone has an interval about 0.2 wide, their difference one of about half of that, above 0.
    """
    hard = np.arange(100) < 50
    one, other = (np.arange(100) < 57).astype(float), hard.astype(float)
    alone = mean_interval(one, prompts(100), HOW, share=True)
    found = paired_difference(one, other, prompts(100), HOW, share=True)
    assert found.value == pytest.approx(0.07)
    assert found.n == 100
    assert found.low > 0
    assert found.high - found.low < 0.6 * (alone.high - alone.low)
    back = paired_difference(other, one, prompts(100), HOW, share=True)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("more", "fewer", "n"), [(3, 1, 10), (1, 6, 20), (0, 4, 9), (12, 12, 30)])
def test_tango_is_where_the_score_by_the_largest_likelihood_is_z(more, fewer, n, confidence):
    """At a bound the share of ``fewer`` that makes the counts most likely gives a score of z."""
    z = stats.norm.ppf((1 + confidence) / 2)
    for bound, sign in zip(tango(more, fewer, n, confidence), (1, -1), strict=True):

        def unlikely(q, d=bound):
            cells = (q + d, q, 1 - 2 * q - d)
            counts = (more, fewer, n - more - fewer)
            return -sum(k * np.log(max(c, 1e-300)) for k, c in zip(counts, cells, strict=True))

        ends = (max(0.0, -bound), (1 - bound) / 2)
        q = optimize.minimize_scalar(
            unlikely, bounds=ends, method="bounded", options={"xatol": 1e-10}
        ).x
        score = (more - fewer - n * bound) / np.sqrt(n * (2 * q + bound * (1 - bound)))
        assert score == pytest.approx(sign * z, abs=1e-4)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("count", [5, 6, 124, 125])
def test_five_images_of_one_kind_are_few_and_six_are_not(count, confidence):
    plain, exact = (
        proportion_confint(count, 130, alpha=1 - confidence, method=name)
        for name in ("wilson", "beta")
    )
    wider = (min(plain[0], exact[0]), max(plain[1], exact[1]))
    assert wider != pytest.approx(plain, abs=1e-6)
    found = wilson(count, 130, confidence)
    assert found == pytest.approx(plain if count in (6, 124) else wider)


def test_an_interval_as_it_is_written():
    found = Interval(value=0.5, low=0.25, high=0.75, n=8).as_dict()
    assert found == {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}


def bootstrapped(values: np.ndarray, how: Bootstrap) -> tuple[float, float]:
    """Percentiles of means of resamples; the seed is a number from the text."""
    seed = int.from_bytes(hashlib.blake2b(how.seed.encode(), digest_size=8).digest())
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=how.resamples,
        confidence_level=how.confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


RESAMPLED = Bootstrap(resamples=150, confidence=0.8, seed="some place")
BETWEEN = np.array([0.125, 0.5, 0.25, 1.0, 0.0, 0.75])
ADDED = {"share": [0, 0, 1, 1], "difference": [-1, -1, 1, 1]}


@pytest.mark.parametrize("kind", ADDED)
def test_a_bootstrap_of_shares_is_the_wider_of_with_and_without_the_added_prompts(kind):
    plain = bootstrapped(BETWEEN, RESAMPLED)
    more = bootstrapped(np.concatenate([BETWEEN, ADDED[kind]]), RESAMPLED)
    wanted = (min(plain[0], more[0]), max(plain[1], more[1]))
    if kind == "share":
        found = mean_interval(BETWEEN, prompts(6), RESAMPLED, share=True)
    else:
        found = paired_difference(BETWEEN, np.zeros(6), prompts(6), RESAMPLED, share=True)
    assert (found.low, found.high) == wanted
    assert (found.value, found.n) == (pytest.approx(2.625 / 6), 6)


@pytest.mark.parametrize("values", [BETWEEN, (BETWEEN > 0.3).astype(float)], ids=["any", "yes/no"])
def test_a_bootstrap_of_numbers_adds_nothing_though_they_look_like_yes_and_no(values):
    plain = bootstrapped(values, RESAMPLED)
    mean = mean_interval(values, prompts(6), RESAMPLED, share=False)
    difference = paired_difference(values, np.zeros(6), prompts(6), RESAMPLED, share=False)
    assert (mean.low, mean.high) == (difference.low, difference.high) == plain


@pytest.mark.parametrize(
    ("values", "others", "each"),
    [
        pytest.param([1, 0, 1, 1], [0, 0, 1, 0], 2, id="two images a prompt"),
        pytest.param([0.5, 0, 1, 1], [0, 0, 1, 0], 1, id="values between"),
        pytest.param([1, 0, 1, 1], [0.5, 0, 1, 0], 1, id="others between"),
    ],
)
def test_only_one_yes_or_no_of_each_is_tangos(values, others, each):
    one, other = np.array(values, dtype=float), np.array(others, dtype=float)
    names = np.repeat(prompts(4 // each), each)
    found = paired_difference(one, other, names, RESAMPLED, share=True)
    per_prompt = (one - other).reshape(-1, each).mean(axis=1)
    both = [bootstrapped(v, RESAMPLED) for v in (per_prompt, np.append(per_prompt, [-1, -1, 1, 1]))]
    assert found.low == min(low for low, _ in both)
    assert found.high == max(high for _, high in both)
    assert (found.value, found.n) == (per_prompt.mean(), 4 // each)


def test_one_yes_or_no_of_each_prompt_is_wilsons_and_tangos_at_the_wanted_confidence():
    one, other = np.array([1.0, 1, 0, 1, 0, 1]), np.array([0.0, 1, 1, 0, 0, 0])
    mean = mean_interval(one, prompts(6), RESAMPLED, share=True)
    assert (mean.low, mean.high, mean.n) == (*wilson(4, 6, 0.8), 6)
    difference = paired_difference(one, other, prompts(6), RESAMPLED, share=True)
    assert (difference.low, difference.high, difference.n) == (*tango(3, 1, 6, 0.8), 6)


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([], [], "0 values for 0 images: need one each, at least 1"),
        ([1.0], ["a", "b"], "1 values for 2 images: need one each, at least 1"),
    ],
)
def test_values_without_a_prompt_are_an_error(values, names, message):
    for share in (True, False):
        with pytest.raises(ValueError, match=f"^{message}$"):
            mean_interval(np.array(values), names, HOW, share=share)
        with pytest.raises(ValueError, match=f"^{message}$"):
            paired_difference(np.array(values), np.array(values), names, HOW, share=share)


def test_values_without_a_partner_are_an_error():
    with pytest.raises(ValueError, match=r"^2 values against 1: need one each$"):
        paired_difference(np.zeros(2), np.zeros(1), ["a", "b"], HOW, share=True)
