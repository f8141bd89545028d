"""Bad input of every guard: each a clear line, and a stated decision (docs/how-to/guard.md).

A new guard is a row of `GUARDS`; a new fault is a test over all of them where it applies.
"""

import logging

import pytest
from safetensors.numpy import load_file

from alignguard_data.contracts import records
from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_data.storage import manifest as manifests
from alignguard_train.evaluation.judge import evaluation_seed
from alignguard_train.guards.config import DRAWING, GUARDS
from alignguard_train.guards.files import read_guard
from alignguard_train.guards.reader import guard_file
from alignguard_train.guards.registry import build, load_guard
from alignguard_train.guards.room import make_guard
from alignguard_train.guards.shield.detector import image_seed
from alignguard_train.guards.softening.guards import Softening
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_train.guards.composed import SAFE, UNSAFE, made, release
from tests.alignguard_train.guards.release import BASE, CONCEPTS, pairs_of
from tests.alignguard_train.guards.test_room import SCORERS

ALWAYS_ON = ("sld", "safree")
REWRITES = ("dual-latent", "shield")
KINDS = GUARDS


class Silent:
    def rewrite(self, prompts):
        return [""] * len(prompts)


@pytest.mark.parametrize("kind", KINDS)
def test_another_encoder_is_refused_with_both_named(kind):
    made(kind)
    other = tiny_pipe("epsilon", BASE.pipe.tokenizer)
    with pytest.raises(EngineError, match=f"guard {kind} reads another text encoder") as raised:
        load_guard(guard_file(release()[0], kind), other)
    assert str(raised.value).count("weights") >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_longer_than_the_encoder_is_decided_on_what_it_reads_and_says_so(kind, caplog):
    made(kind)
    header, tensors = read_guard(guard_file(release()[0], kind))
    from alignguard_train.guards.states import FrozenEncoder

    guard = build(header, tensors, FrozenEncoder.of(BASE.pipe))  # one that has said nothing yet
    with caplog.at_level(logging.WARNING):
        (one,) = guard.decide([f"{SAFE} and a field " * 8])
    # The rewriter of this small release may answer nothing, which is a failure of its own.
    assert not one.failed or (kind == "rewriter" and one.reason.endswith("answers nothing"))
    if kind in ALWAYS_ON:
        assert one.action == "soften"  # whatever the prompt is
        return
    assert one.truncated
    assert "longer than the encoder's" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_than_300_benign_prompts_are_said_and_no_rate_at_1_percent_is_quoted(kind, caplog):
    guard = made(kind)
    assert guard.header.threshold.n < 300
    rows = manifests.read(release()[0].partition("guards", kind), "measures").to_pylist()
    quoted = [row for row in rows if row["measure"] == "tpr_at_1"]
    assert bool(quoted) == (kind not in ALWAYS_ON)
    for row in quoted:
        assert row["value"] != row["value"]
        assert "300 or more" in row["note"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_concept_on_the_blacklist_is_refused_with_its_name(kind):
    import dataclasses

    data, config = release()
    changed = dataclasses.replace(config, blacklist=("a.star", "b.unknown"))
    with pytest.raises(ConfigError, match=r"'b\.unknown' is no concept"):
        make_guard(data, kind, BASE, CONCEPTS, changed)


@pytest.mark.parametrize("kind", ["latent-guard", *REWRITES, *ALWAYS_ON])
def test_an_empty_blacklist_allows(kind):
    """Also where Latent Guard is the gate of another guard."""
    if kind == "latent-guard":
        guard = made(kind).with_blacklist({})
    else:
        guard = made(kind, gate="latent-guard")
        inner = guard.gate if hasattr(guard, "gate") else guard._gate
        empty = inner.with_blacklist({})
        for name in ("gate", "_gate"):
            if hasattr(guard, name):
                setattr(guard, name, empty)
    assert [(one.action, one.reason) for one in guard.decide([UNSAFE])] == [
        ("allow", "empty_blacklist")
    ]


def test_an_empty_word_list_leaves_guardt2i_its_similarity():
    (one,) = made("guardt2i").with_blacklist({}).decide([UNSAFE])
    assert not one.failed
    assert one.reason in ("below_threshold", "flagged: the embedding says another text")


@pytest.mark.parametrize("kind", ["rewriter", *REWRITES, *ALWAYS_ON])
def test_what_a_safety_rule_refuses_is_blocked_and_neither_softened_nor_rewritten(kind):
    (one,) = made(kind).decide(["a picture of a child"])
    rules = "refused_by_rules" if kind == "rewriter" else "a_safety_rule_refuses_the_prompt"
    assert (one.action, one.reason) == ("block", rules)


def test_a_rewriter_guard_whose_model_answers_nothing_blocks_and_counts_a_failure(monkeypatch):
    guard = made("rewriter")
    monkeypatch.setattr(
        guard.rewriter, "candidates", lambda texts, n, **_: [[""] * n for _ in texts]
    )
    (one,) = guard.decide([UNSAFE])
    assert (one.action, one.failed) == ("block", True)
    assert one.reason == "guard_failed: the rewriter answers nothing"


def test_a_rewriter_that_answers_nothing_blocks_or_leaves_the_guards_own_options():
    (one,) = made("dual-latent").changed(rewriter=Silent()).decide([UNSAFE])
    assert (one.action, one.reason) == ("block", "rewriter_answers_nothing")
    shield = made("shield")
    own = shield.decide([UNSAFE])
    assert shield.changed(rewriter=Silent()).decide([UNSAFE]) == own
    assert own[0].action == "rewrite"


@pytest.mark.parametrize("kind", KINDS)
def test_a_guard_shares_no_weight_with_the_judge(kind):
    params = {"renders": 20, "steps": 2, "side": 32, "epochs": 1} if kind == "shield" else {}
    made(kind, **params)
    judges = [x for path in SCORERS.rglob("*.safetensors") for x in load_file(path).values()]
    judged = {(x.shape, x.tobytes()) for x in judges if x.size > 8}
    own = load_file(guard_file(release()[0], kind))
    held = {(x.shape, x.tobytes()) for x in own.values()}
    assert len(judged) > 5
    assert held or kind in ALWAYS_ON
    assert not held & judged


@pytest.mark.parametrize("kind", KINDS)
def test_the_guards_that_act_on_the_drawing_are_named(kind):
    """An attack draws what they let through by them, and by the plain pipe for all others."""
    guard = made(kind)
    acts = isinstance(guard, Softening) or hasattr(guard, "watching")
    assert (kind in DRAWING) == acts


def test_the_detector_draws_from_other_noise_than_the_release_and_the_evaluation():
    """Same prompts, other seeds: no image of the detector's training is one that is judged."""
    rows = pairs_of(("zigzag", "star"), 0, 20)
    own = {image_seed(str(row[side]), 0) for row in rows for side in ("caption", "caption_safe")}
    others = {records.pair_seed(str(row["pair_id"]), "m") for row in rows}
    others |= {evaluation_seed(str(row["pair_id"])) for row in rows}
    assert len(own) > 20
    assert not own & others
