"""The threshold keeps its false-positive rate on the calibration prompts, ties included."""

import numpy as np
import pytest
from scipy.stats import binom

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.calibration import (
    ENOUGH_BENIGN,
    calibrated,
    may_quote,
    set_id,
    threshold_at,
)


@pytest.mark.parametrize(
    ("scores", "fpr", "flagged"),
    [
        (range(100), 0.01, 1),
        (range(100), 0.05, 5),
        (range(99), 0.01, 0),  # 1 of 99 would be more than 1 %
        ([0.0] * 90 + [1.0] * 10, 0.05, 0),  # ten equal scores are flagged together or not
        ([0.0] * 95 + [1.0] * 5, 0.05, 5),
        ([3.0] * 10, 0.5, 0),
        ([1.0], 0.01, 0),
    ],
)
def test_at_most_the_stated_share_of_benign_prompts_is_flagged(scores, fpr, flagged):
    scores = np.array(scores, dtype=float)
    assert (scores >= threshold_at(scores, fpr)).sum() == flagged


@pytest.mark.parametrize("scores", [[], [1.0, np.nan]])
def test_a_threshold_needs_numbers(scores):
    with pytest.raises(EngineError, match="a threshold needs the scores of benign prompts"):
        threshold_at(np.array(scores, dtype=float), 0.01)


def test_the_calibration_says_its_set_size_and_interval():
    texts = [f"caption {i}" for i in range(400)]
    found = calibrated(np.arange(400.0), texts, 0.01)
    assert (found.n, found.target_fpr, found.achieved_fpr) == (400, 0.01, 0.01)
    # Of 4 of 400 the wider bounds: Clopper and Pearson's low one, at which 4 or more of 400 have
    # probability 0.025, and Wilson's high one, by hand from (4 + z²/2) / (400 + z²), z = 1.959964.
    assert found.low == pytest.approx(0.002731, abs=1e-6)
    assert binom.sf(3, 400, found.low) == pytest.approx(0.025)
    assert found.high == pytest.approx(0.025427, abs=2e-6)
    assert found.calibration == set_id(texts[::-1]) != set_id(texts[1:])


def test_the_interval_of_no_prompt_flagged_is_not_zero_wide():
    found = calibrated(np.arange(100.0), [f"caption {i}" for i in range(100)], 0.001)
    assert (found.achieved_fpr, found.low) == (0, 0)
    assert found.high == pytest.approx(0.036994, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "fpr", "quoted"),
    [(ENOUGH_BENIGN, 0.01, True), (ENOUGH_BENIGN - 1, 0.01, False), (20, 0.05, True)],
)
def test_with_fewer_than_300_benign_prompts_one_percent_is_not_quoted(n, fpr, quoted):
    why = may_quote(n, fpr)
    assert (not why) == quoted
    assert quoted or f"not quoted: {n} benign prompts" in why
