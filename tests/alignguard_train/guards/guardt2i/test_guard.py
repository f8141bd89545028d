"""What GuardT2I makes of a decoded text: words, similarity, likelihood, and their sum."""

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.config import GuardT2ISettings
from alignguard_train.guards.guardt2i import guard as guard_module
from alignguard_train.guards.guardt2i.fitting import guardt2i_guard, new_decoder
from alignguard_train.guards.guardt2i.guard import OTHER_TEXT, GuardT2I
from alignguard_train.guards.guardt2i.similarity import SentenceSimilarity, WordOverlap
from tests.alignguard_data.engines.smol_models import MINILM, missing_model
from tests.alignguard_train.guards.small import header_for, standin_encoder

SMALL = {"layers": 1, "width": 16, "heads": 2}
LIST = {"a.zigzag": ["zigzag"], "a.hook": "hook"}


@pytest.fixture(scope="module")
def encoder():
    return standin_encoder()


def guard_of(encoder, monkeypatch=None, says: str | None = None, **settings) -> GuardT2I:
    """A guard whose decoder writes ``says``, whatever the embedding."""
    chosen = GuardT2ISettings(**SMALL, **settings)
    decoder = new_decoder(chosen, encoder, 0)
    if says is not None:
        ids, _ = encoder.ids([says])
        monkeypatch.setattr(
            guard_module, "decoded", lambda _, states, rows: ids.repeat(len(rows), 1)
        )
    return GuardT2I(header_for(encoder, "guardt2i"), encoder, decoder, WordOverlap(), chosen, LIST)


def test_a_plain_unsafe_prompt_is_found_by_its_words_and_not_by_similarity(encoder, monkeypatch):
    text = "a red ball and a dark zigzag"
    guard = guard_of(encoder, monkeypatch, says=text)
    parts = guard.parts(guard.read([text]))
    assert parts["verbalizer"].tolist() == [1.0]
    assert parts["similarity"].tolist() == [-1.0]
    assert guard.score([text]) == pytest.approx([0.6 - 1.0])


def test_another_text_than_the_typed_one_is_found_by_similarity(encoder, monkeypatch):
    guard = guard_of(encoder, monkeypatch, says="a blue box")
    parts = guard.parts(guard.read(["green green green"]))
    assert parts["verbalizer"].tolist() == [0.0]
    assert parts["similarity"].tolist() == [0.0]


def test_words_match_as_whole_words_only(encoder, monkeypatch):
    guard = guard_of(encoder, monkeypatch, says="a fishhook")
    assert guard.found_words(["a fishhook", "two hooks", "ZIGZAG"]) == ["", "a.hook", "a.zigzag"]


def test_the_list_changes_without_training(encoder, monkeypatch):
    guard = guard_of(encoder, monkeypatch, says="a dark zigzag")
    shorter = guard.with_blacklist({"a.hook": ["hook"]})
    assert shorter.score(["a dark zigzag"]) < guard.score(["a dark zigzag"])
    assert guard.with_blacklist({}).found_words(["a dark zigzag"]) == [""]


def test_the_likelihood_can_decide_instead(encoder):
    combined, nll = guard_of(encoder), guard_of(encoder, score="nll")
    reading = nll.read(["a red ball"])
    assert (nll.scores_of(reading) == reading.nll).all()
    assert not np.allclose(combined.score(["a red ball"]), reading.nll)


def test_a_decision_names_the_word_or_that_the_text_differs(encoder, monkeypatch):
    guard = guard_of(encoder, monkeypatch, says="a dark zigzag")
    object.__setattr__(guard.header.threshold, "value", -0.9)
    reasons = [one.reason for one in guard.decide(["a dark zigzag"])]
    reasons += [one.reason for one in guard.with_blacklist({}).decide(["a blue box"])]
    object.__setattr__(guard.header.threshold, "value", 0.5)
    assert reasons == ["flagged: a.zigzag", f"flagged: {OTHER_TEXT}"]


def test_a_long_prompt_is_compared_with_what_the_encoder_reads(encoder, monkeypatch):
    long = "a red ball on the left of a meadow " * 4
    guard = guard_of(encoder, monkeypatch, says=long)
    reading = guard.read([long])
    assert reading.truncated == [True]
    assert reading.similarity == pytest.approx([1.0])
    assert guard.decide([long])[0].truncated


def test_a_guard_that_fails_blocks(encoder, monkeypatch):
    guard = guard_of(encoder)

    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(guard_module, "decoded", broken)
    (one,) = guard.decide(["a red ball"])
    assert (one.action, one.failed, one.reason) == ("block", True, "guard_failed: RuntimeError")


def test_no_prompt_has_no_score(encoder):
    assert guard_of(encoder).score([]).shape == (0,)


@pytest.mark.parametrize(
    ("typed", "decoded", "value"),
    [
        ("a red ball", "a red ball", 1.0),
        ("a red ball", "A RED, ball", 6 / 7),
        ("a a b", "a b b", 4 / 6),
        ("a", "b", 0.0),
        ("", "", 1.0),
        ("a", "", 0.0),
    ],
)
def test_the_overlap_of_words_is_their_f1(typed, decoded, value):
    assert WordOverlap().compare([typed], [decoded]) == pytest.approx([value])


def test_a_sentence_model_compares_meaning():
    if missing := missing_model(MINILM):
        pytest.skip(missing)
    from alignguard_data.engines.model_source import resolve_model

    model = SentenceSimilarity(resolve_model(MINILM))
    found = model.compare(["a red ball", "a red ball", "x"], ["a red ball", "tax law", ""])
    assert found[0] == pytest.approx(1.0)
    assert found[1] < 0.5
    assert found[2] == 0
    assert model.version != WordOverlap.version


def test_another_similarity_than_the_calibrated_one_is_refused(encoder):
    settings = GuardT2ISettings(**SMALL)
    header = header_for(encoder, "guardt2i", similarity="sentences-1", blacklist={})
    with pytest.raises(EngineError, match="calibrated with sentences-1; this is words"):
        guardt2i_guard(header, {}, encoder, settings)
    header = header_for(encoder, "guardt2i", similarity="words", blacklist={})
    with pytest.raises(KeyError, match="not this decoder's"):
        guardt2i_guard(header, {"x": torch.zeros(1)}, encoder, settings)
