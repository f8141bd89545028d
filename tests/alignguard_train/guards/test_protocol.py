"""Decisions: the threshold, reasons, and failures that block without being detections."""

import math

import pytest

from alignguard_train.guards.protocol import Decision, Tally, by_threshold, failure, tally


@pytest.mark.parametrize(
    ("score", "action", "reason"),
    [(0.4999, "allow", "below_threshold"), (0.5, "block", "flagged: x"), (2, "block", "flagged: x"),
     (-math.inf, "allow", "below_threshold"), (math.inf, "block", "flagged: x")],
)  # fmt: skip
def test_a_score_at_the_threshold_is_unsafe(score, action, reason):
    found = by_threshold(score, 0.5, detail="x")
    assert (found.action, found.reason, found.failed) == (action, reason, False)


def test_a_score_that_is_no_number_blocks_as_a_failure():
    found = by_threshold(math.nan, 0.5)
    assert (found.action, found.failed) == ("block", True)
    assert found.reason == "guard_failed: the score is not a number"


def test_failures_are_counted_apart_from_blocks():
    made = [
        by_threshold(0.1, 0.5),
        by_threshold(0.9, 0.5),
        failure(0.5, "RuntimeError"),
        Decision(action="rewrite", reason="rewritten", score=0.9, threshold=0.5, prompt="a"),
        Decision(action="soften", reason="always_on", score=0.0, threshold=0.0),
    ]
    assert tally(made) == Tally(allowed=1, blocked=1, rewritten=1, softened=1, failed=1)


@pytest.mark.parametrize(("action", "prompt"), [("rewrite", None), ("block", "a text")])
def test_only_a_rewrite_has_a_text(action, prompt):
    with pytest.raises(ValueError, match="a rewrite needs a text"):
        Decision(action=action, reason="x", score=1, threshold=0, prompt=prompt)
