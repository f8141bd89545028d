"""A guard that fails blocks, and says that it failed."""

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.protocol import tally
from alignguard_train.guards.text_guard import TextGuard
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_train.guards.small import eos_first_encoder, header_for


class Head:
    def __init__(self, scores=None, error: Exception | None = None) -> None:
        self._scores, self._error = scores, error

    def scores(self, states):
        if self._error:
            raise self._error
        return np.array(self._scores, dtype=float)

    def details(self, states):
        return ["a concept"] * len(states)


def guard(**head) -> TextGuard:
    encoder = eos_first_encoder()
    return TextGuard(header_for(encoder), encoder, Head(**head))


@pytest.mark.parametrize(
    "error", [RuntimeError("out of memory"), EngineError("no end"), ValueError("shape")]
)
def test_a_failing_guard_blocks_every_prompt_and_counts_no_detection(error, caplog):
    decided = guard(error=error).decide(["a", "b"])
    assert [one.action for one in decided] == ["block", "block"]
    assert [one.reason for one in decided] == [f"guard_failed: {type(error).__name__}"] * 2
    assert (tally(decided).failed, tally(decided).blocked) == (2, 0)
    assert "so it blocks" in caplog.text


def test_a_score_that_is_no_number_fails_alone():
    decided = guard(scores=[0.1, np.nan, 0.9]).decide(["a", "b", "c"])
    assert [(one.action, one.failed) for one in decided] == [
        ("allow", False), ("block", True), ("block", False),
    ]  # fmt: skip
    assert decided[2].reason == "flagged: a concept"


def test_a_longer_prompt_is_decided_on_what_the_encoder_reads():
    decided = guard(scores=[0.1, 0.1]).decide(["a b", "a b c d e f g h"])
    assert [(one.action, one.truncated) for one in decided] == [("allow", False), ("allow", True)]


def test_a_pipe_with_another_encoder_is_refused():
    with pytest.raises(EngineError, match="reads another text encoder than that of the Stable"):
        guard(scores=[]).check(tiny_pipe("epsilon"))


def test_a_guard_of_prompts_does_not_soften():
    with pytest.raises(EngineError, match="does not soften"):
        guard(scores=[]).soften(tiny_pipe("epsilon"))
