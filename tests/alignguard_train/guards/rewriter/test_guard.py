"""A guard that rewrites: what is taken, what is blocked, and what counts as a failure."""

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.protocol import Decision, by_threshold, tally
from alignguard_train.guards.rewriter.guard import RULES, Rewriting
from alignguard_train.guards.rewriter.selection import chosen, retention

BAD = "a red ball and a dark zigzag"
TERMS = {"a.zigzag": ["zigzag"], "a.hook": ["hook"]}
RULED = "a picture of a child"


class Flags:
    """Flags what holds `dark`."""

    name, threshold = "flags", 0.5

    def score(self, prompts):
        return np.array([float("dark" in text) for text in prompts])

    def decide(self, prompts) -> list[Decision]:
        return [by_threshold(float("dark" in text), 0.5) for text in prompts]

    def check(self, pipe):
        pass

    def soften(self, pipe):
        raise EngineError("never")


class Says:
    """Answers with what it was given, and keeps what it was asked."""

    def __init__(self, *texts):
        self.texts, self.asked = texts, []

    def rewrite(self, prompts):
        self.asked += prompts
        return list(self.texts)


def decided(prompt, *texts) -> Decision:
    (one,) = Rewriting(Flags(), Says(*texts), TERMS).decide([prompt])
    return one


def test_a_flagged_prompt_is_rewritten_and_an_allowed_one_is_not_asked_about():
    says = Says("a red ball")
    found = Rewriting(Flags(), says, TERMS).decide(["a blue box", BAD])
    assert [one.action for one in found] == ["allow", "rewrite"]
    assert found[1].prompt == "a red ball"
    assert says.asked == [BAD]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a dark ball", "flagged: the rewrite is flagged"),
        ("a red ball and a zigzag", "flagged: the rewrite names the concept"),
        (RULED, "flagged: a rule refuses the rewrite"),
    ],
)
def test_a_rewrite_that_does_not_pass_is_blocked_and_says_why(text, why):
    one = decided(BAD, text)
    assert (one.action, one.reason, one.failed) == ("block", why, False)


@pytest.mark.parametrize("texts", [("",), ("  ",), (), ("a", "b")])
def test_a_rewriter_that_answers_nothing_blocks_and_counts_as_a_failure(texts):
    one = decided(BAD, *texts)
    assert (one.action, one.failed) == ("block", True)
    assert one.reason == "guard_failed: the rewriter answers nothing"
    assert tally([one]).failed == 1
    assert tally([one]).blocked == 0


def test_a_rewriter_that_raises_blocks_and_counts_as_a_failure():
    class Breaks:
        def rewrite(self, prompts):
            raise RuntimeError("out of memory")

    found = Rewriting(Flags(), Breaks(), TERMS).decide([BAD, "a blue box"])
    assert [(one.action, one.failed) for one in found] == [("block", True), ("allow", False)]


def test_what_the_rules_refuse_is_blocked_whatever_the_guard_says_and_never_rewritten():
    says = Says("a red ball")
    (one,) = Rewriting(Flags(), says, TERMS).decide([RULED])
    assert (one.action, one.reason, says.asked) == ("block", RULES, [])


def test_of_the_rewrites_that_pass_the_one_that_keeps_most_is_taken():
    texts = ["a ball", "a red ball", "a red ball and a dark thing", ""]
    assert chosen(BAD, texts, Flags(), TERMS) == ("a red ball", "")
    assert chosen(BAD, texts[::-1], Flags(), TERMS) == ("a red ball", "")


def test_a_rewrite_may_name_a_concept_that_the_prompt_does_not_name():
    assert chosen(BAD, ["a red hook"], Flags(), TERMS)[0] == "a red hook"


def test_retention_is_the_jaccard_index_of_words():
    assert retention("a red ball", "A red box") == pytest.approx(2 / 4)
    assert retention("a", "a") == 1
    assert retention("a", "b") == 0
