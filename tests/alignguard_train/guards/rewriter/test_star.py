"""Chunks of a reply and the weights of its tokens."""

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.rewriter.codec import PromptCodec
from alignguard_train.guards.rewriter.star import (
    HeadScorer,
    TermScorer,
    chunk_ends,
    token_weights,
)
from tests.alignguard_train.guards.small import standin_encoder

TERMS = ("zigzag",)


class Beginnings:
    """Safe until the text holds `dark`; keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def safe(self, texts):
        self.asked += texts
        return np.array([0.0 if "dark" in text else 1.0 for text in texts])


@pytest.mark.parametrize(
    ("text", "words", "ends"),
    [
        ("a b c d", 2, [3, 7]),
        ("a b c d e", 2, [3, 7, 9]),
        ("a", 5, [1]),
        ("a b ", 1, [1, 4]),
        ("a  b c", 2, [4, 6]),
    ],
)
def test_a_chunk_ends_after_its_words_and_the_last_with_the_text(text, words, ends):
    assert chunk_ends(text, words) == ends


def test_a_token_has_the_score_at_its_chunks_end_and_the_end_token_that_of_the_whole():
    codec = PromptCodec(standin_encoder().tokenizer, 24)
    text = "a red ball, and a dark zigzag"
    reply = codec.reply(text)
    scorer = Beginnings()
    (weights,) = token_weights([text], [reply.ends], scorer, 3)
    assert scorer.asked == ["a red ball,", "a red ball, and a dark", text]
    # a red ball , | and a dark | zigzag and the end: all from `and` on are unsafe.
    assert weights == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert len(weights) == len(reply.ids)


def test_equal_beginnings_are_scored_once():
    scorer = Beginnings()
    token_weights(["a b c", "a b d"], [[1], [1]], scorer, 2)
    assert sorted(scorer.asked) == ["a b", "a b c", "a b d"]


def test_an_empty_reply_is_refused():
    with pytest.raises(EngineError, match="empty reply"):
        chunk_ends("  ", 2)


def test_terms_are_found_and_a_share_of_verdicts_is_turned():
    assert TermScorer(TERMS).safe(["a dark zigzag"])[0] < 0.01
    assert TermScorer(TERMS).safe(["a ball"])[0] > 0.99
    texts = [f"a ball {i}" for i in range(400)]
    wrong = (TermScorer(TERMS, wrong=0.1, seed=1).safe(texts) < 0.5).mean()
    assert 0.05 < wrong < 0.16
    again = TermScorer(TERMS, wrong=0.1, seed=1).safe(texts[::-1])[::-1]
    assert (again == TermScorer(TERMS, wrong=0.1, seed=1).safe(texts)).all()


def test_a_heads_score_at_its_threshold_is_as_likely_safe_as_not():
    class Head:
        def scores(self, states):
            return np.array([2.0, 3.0, 1e9])

        def details(self, states):
            return [""] * 3

    safe = HeadScorer(standin_encoder(), Head(), 2.0).safe(["a", "b", "c"])
    assert safe[:2] == pytest.approx([0.5, 1 / (1 + np.e)])
    assert safe[2] < 1e-9
