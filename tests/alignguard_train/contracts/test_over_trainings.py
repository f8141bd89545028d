"""Intervals over trainings: they cover what they promise, and are those of a two-way table."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from alignguard_train.contracts.intervals import (
    Bootstrap,
    OverTrainings,
    mean_interval,
    over_trainings,
    paired_difference,
    tango,
    two_way_interval,
    wilson,
)

RESAMPLED = Bootstrap(resamples=150, confidence=0.8, seed="some place")
ADDED = {"share": [0, 0, 1, 1], "difference": [-1, -1, 1, 1]}


def test_trainings_vary_as_seeds_and_prompts_together():
    """A value that is the training's plus the prompt's own: both variances of the mean add up."""
    rng = np.random.default_rng(1)
    of_training, of_prompt = rng.normal(size=(30, 1)), rng.normal(size=(1, 60))
    table = of_training + of_prompt
    found = over_trainings(table, "number").interval()
    error = np.sqrt(of_training.var(ddof=1) / 30 + of_prompt.var(ddof=1) / 60)
    assert found.value == pytest.approx(table.mean())
    assert found.n == 60
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


@pytest.mark.parametrize("shape", [(1, 5), (3, 0)])
def test_a_single_training_says_nothing_of_others(shape):
    message = "need 2 trainings and a prompt, got {} and {}".format(*shape)
    with pytest.raises(ValueError, match=f"^{message}$"):
        over_trainings(np.zeros(shape), "share")


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
@pytest.mark.parametrize("kind", ["share", "difference", "number"])
def test_an_empty_table_is_an_error_and_no_interval(shape, kind):
    with pytest.raises(ValueError, match=r"^\d trainings of \d prompts: need one each$"):
        two_way_interval(np.zeros(shape), Bootstrap(), kind=kind)


TABLE = np.array(
    [
        [0.0, 0.5, 1.0],
        [0.25, 0.5, 0.5],
        [0.0, 1.0, 1.0],
        [0.0, 0.25, 1.0],
        [0.5, 0.5, 0.75],
        [0.0, 0.75, 0.5],
    ]
)


@pytest.mark.parametrize("trainings", [2, 4, 5, 6])
@pytest.mark.parametrize("kind", ["share", "difference", "number"])
def test_an_error_over_trainings_is_that_of_a_two_way_table(trainings, kind):
    """By the variances of the margins; Satterthwaite's degrees of freedom from five trainings."""
    table = TABLE[:trainings]
    whole = np.hstack([table, np.tile(ADDED.get(kind, []), (trainings, 1))])
    t, p = whole.shape
    of_trainings = p * whole.mean(axis=1).var(ddof=1)
    of_prompts = t * whole.mean(axis=0).var(ddof=1)
    total = whole.var() * t * p
    of_rest = (total - (t - 1) * of_trainings - (p - 1) * of_prompts) / ((t - 1) * (p - 1))
    variance = max(of_trainings + of_prompts - of_rest, of_trainings, of_prompts)
    parts = of_trainings**2 / (t - 1) + of_prompts**2 / (p - 1)
    freedom = variance**2 / (parts + of_rest**2 / ((t - 1) * (p - 1)))
    found = over_trainings(table, kind)
    assert found.value == pytest.approx(table.mean())
    assert found.centre == pytest.approx(whole.mean())
    assert found.error == pytest.approx(np.sqrt(variance / (t * p)))
    assert found.freedom == pytest.approx(max(freedom, t - 1) if t >= 5 else t - 1)
    assert (found.kind, found.prompts) == (kind, 3)


def test_many_trainings_on_one_prompt_are_students_t():
    """No scatter of prompts to weigh against: six means 0 to 5, t with 5 degrees of freedom."""
    found = over_trainings(np.arange(6.0).reshape(6, 1), "number")
    assert found.freedom == pytest.approx(5)
    assert found.error == pytest.approx(np.arange(6).std(ddof=1) / np.sqrt(6))


CLAIM = OverTrainings(value=0.2, centre=0.3, error=0.1, freedom=4, kind="share", prompts=9)


@pytest.mark.parametrize("swapped", [False, True])
def test_an_interval_and_a_claim_over_trainings_hold_for_the_mean_with_and_without_added(swapped):
    claim = CLAIM
    if swapped:
        claim = dataclasses.replace(CLAIM, value=0.3, centre=0.2)
    half = 0.1 * stats.t.ppf(0.9, 4)
    found = claim.interval(0.8)
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.3 + half))
    assert (found.value, found.n) == (claim.value, 9)
    assert claim.p_above(0.1) == pytest.approx(stats.t.sf(1, 4))
    assert claim.p_below(0.4) == pytest.approx(stats.t.sf(1, 4))


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("share", 0, 1), ("difference", -1, 1), ("number", -np.inf, np.inf)],
)
def test_an_interval_over_trainings_stays_in_the_range_of_its_kind(kind, low, high):
    wide = dataclasses.replace(CLAIM, error=10.0, kind=kind).interval()
    half = 10 * stats.t.ppf(0.975, 4)
    assert wide.low == pytest.approx(max(low, 0.2 - half))
    assert wide.high == pytest.approx(min(high, 0.3 + half))


def test_without_scatter_a_claim_is_true_or_false():
    sure = dataclasses.replace(CLAIM, value=0.3, centre=0.3, error=0.0)
    assert [sure.p_above(limit) for limit in (0.2, 0.3, 0.4)] == [0.0, 1.0, 1.0]
    assert [sure.p_below(limit) for limit in (0.2, 0.3, 0.4)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("kind", "row"), [("share", [1, 0, 1]), ("share", [0.5, 0, 1]), ("number", [3, 5, 4])]
)
def test_trainings_all_alike_are_one_table_of_prompts(kind, row):
    table = np.tile(np.array(row, dtype=float), (3, 1))
    wanted = mean_interval(table[0], ["0", "1", "2"], RESAMPLED, share=kind == "share")
    assert two_way_interval(table, RESAMPLED, kind=kind) == wanted


@pytest.mark.parametrize("row", [[1, 0, -1, -1], [0.5, 0, -0.25, 0]])
def test_trainings_all_alike_are_one_difference_of_prompts(row):
    table = np.array([row] * 3, dtype=float)
    ones, others = np.maximum(table[0], 0), np.maximum(-table[0], 0)
    wanted = paired_difference(ones, others, list("0123"), RESAMPLED, share=True)
    assert two_way_interval(table, RESAMPLED, kind="difference") == wanted


def test_trainings_that_differ_are_weighed_at_the_wanted_confidence():
    found = two_way_interval(TABLE, RESAMPLED, kind="share")
    assert found == over_trainings(TABLE, "share").interval(0.8)
