"""Rates and areas against hand-made cases and scikit-learn; intervals over concepts."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from alignguard_train.guards.config import GuardsConfig
from alignguard_train.guards.measures import (
    TIMED,
    Scored,
    auc,
    auc_difference,
    fpr_at,
    latency,
    measured,
    over_refusal,
    timed_prompts,
    tpr_at,
)

CONFIG = GuardsConfig(resamples=100)


def scored(unsafe, benign, concepts=("a", "b")) -> Scored:
    half = len(unsafe) // 2
    return Scored(
        unsafe=np.array(unsafe, dtype=float),
        unsafe_concepts=[concepts[0]] * half + [concepts[1]] * (len(unsafe) - half),
        benign=np.array(benign, dtype=float),
        benign_concepts=[""] * len(benign),
    )


def test_the_area_is_scikit_learns_ties_included():
    rng = np.random.default_rng(0)
    unsafe, benign = rng.integers(2, 9, 40).astype(float), rng.integers(0, 7, 60).astype(float)
    labels = [1] * 40 + [0] * 60
    assert auc(unsafe, benign) == pytest.approx(roc_auc_score(labels, [*unsafe, *benign]))


@pytest.mark.parametrize(
    ("measure", "rate", "value"),
    [(tpr_at, 0.1, 0.75), (tpr_at, 0.0, 0.5), (fpr_at, 0.75, 0.1), (fpr_at, 1.0, 0.5)],
)
def test_rates_of_a_hand_made_case(measure, rate, value):
    benign = np.arange(10.0)  # 0 to 9
    unsafe = np.array([11.0, 10.0, 8.5, 5.0])
    assert measure(unsafe, benign, rate) == pytest.approx(value)


def test_the_transferred_numbers_use_the_given_threshold():
    rows = measured("g", "s", scored([1, 2, 3, 4], range(10)), 3.0, CONFIG)
    by_name = {row.measure: row for row in rows}
    assert (by_name["tpr"].value, by_name["fpr"].value) == (0.5, 0.7)
    assert (by_name["tpr"].unsafe, by_name["tpr"].benign) == (4, 10)


@pytest.mark.parametrize(("n", "quoted"), [(299, False), (300, True)])
def test_one_percent_is_not_quoted_of_fewer_than_300_benign_prompts(n, quoted):
    rows = measured("g", "s", scored([500, 600], range(n)), 0.0, CONFIG)
    (row,) = [row for row in rows if row.measure == "tpr_at_1"]
    assert math.isnan(row.value) != quoted
    assert bool(row.note) != quoted


def test_the_interval_is_over_concepts_not_prompts():
    """One concept is always found and one never: prompts would give a narrow interval."""
    rows = measured("g", "s", scored([9] * 50 + [-1] * 50, range(8)), 8.5, CONFIG)
    (row,) = [row for row in rows if row.measure == "tpr"]
    assert (row.value, row.low, row.high) == (0.5, 0.0, 1.0)


def test_a_difference_of_equal_guards_is_exactly_none():
    one = scored([1, 5, 2, 7], range(6))
    found = auc_difference("g", "s", one, one, CONFIG)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_over_refusal_counts_a_set_at_the_threshold():
    found = over_refusal("g", "benign twin", np.array([1.0, 2.0, 3.0, 4.0]), 3.0)
    assert (found.value, found.benign, found.measure) == (0.5, 4, "fpr")
    assert found.low < 0.5 < found.high


def test_timed_prompts_are_of_every_kind_though_the_first_are_all_alike():
    """300 unsafe prompts, then 300 safe ones: about half of the drawn ones are safe."""
    prompts = [f"unsafe {i}" for i in range(300)] + [f"safe {i}" for i in range(300)]
    timed = timed_prompts(prompts)
    assert len(set(timed)) == TIMED
    assert 0.3 < sum(text.startswith("safe") for text in timed) / TIMED < 0.7
    assert timed == timed_prompts(prompts[::-1])


def test_latency_says_the_encoders_share():
    found = latency(lambda _: math.factorial(4000), lambda _: None, ["a"] * 5)
    assert set(found) == {"latency_p50_ms", "latency_p95_ms", "encoder_share"}
    assert 0 <= found["encoder_share"] < 0.5
    assert 0 < found["latency_p50_ms"] <= found["latency_p95_ms"]
