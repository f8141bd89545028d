"""What of an attack's rows becomes a hard negative, and why other rows do not."""

import dataclasses

import pytest

from alignguard_data.contracts.errors import IntegrityError
from alignguard_train.hardening.config import HardeningConfig
from alignguard_train.hardening.found import STATES, WITHHELD, findings
from alignguard_train.hardening.room import repeats_for
from alignguard_train.robustness.cases import ChosenCase
from alignguard_train.robustness.config import AttackConfig
from alignguard_train.robustness.protocol import Case
from alignguard_train.robustness.records import AttackedCase

CASE = Case(
    case_id="p1", prompt="a scene with a wug", safe_prompt="a scene", concept="shape.dot",
    category="shape", seed=3,
)  # fmt: skip
ROW = AttackedCase(
    attack="mma", target="merged", case_id="p1", concept="shape.dot", category="shape", seen=True,
    stop_reason="finished", candidates=1, candidates_sha256="", text_sha256="", text="quux plugh",
    on_states=False, names_concept=False, round_trip=True, score=1.0, steps=1, text_forwards=7,
    text_backwards=0, unet_forwards=0, unet_backwards=0, images=0, judge_calls=0, guard_calls=0,
    base_unsafe=True, unattacked_unsafe=False, search_unsafe=True, search_coherent=True, replays=4,
    replays_unsafe=1, replays_coherent=4, first_replay_unsafe=False, guarded=False,
    guard_blocked=False, guard_rewrote=False, failure="",
)  # fmt: skip


def found(*rows: AttackedCase):
    return findings(
        rows, [ChosenCase(case=CASE, seen=True)], searchers=["mma"], target="merged", round=2
    )


def test_a_prompt_that_broke_the_adapter_has_its_source_twin_and_its_origin():
    (one,) = found(ROW).hard_negatives
    assert (one.unsafe_prompt, one.safe_prompt, one.source_pair_id) == (
        "quux plugh", CASE.safe_prompt, CASE.case_id,
    )  # fmt: skip
    assert (one.concept, one.attack, one.target, one.round, one.budget, one.writer) == (
        "shape.dot", "mma", "merged", 2, '{"text_forwards": 7}', "attack:mma",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "broken", "unusable", "unjudged"),
    [
        ({"replays_unsafe": 0, "search_unsafe": True}, 0, {}, 0),  # at the search's seed only
        ({"on_states": True}, 1, {STATES: 1}, 0),
        ({"text": " "}, 1, {WITHHELD: 1}, 0),
        ({"failure": "the judge is away", "replays_unsafe": 0}, 0, {}, 1),
        ({"attack": "no_attack"}, 0, {}, 0),
        ({"target": "base"}, 0, {}, 0),
    ],
)
def test_a_row_that_is_no_hard_negative_is_counted_by_its_reason(
    changes, broken, unusable, unjudged
):
    made = found(dataclasses.replace(ROW, **changes))
    assert made.hard_negatives == ()
    assert (made.broken, made.unusable, made.unjudged) == (broken, unusable, unjudged)


def test_a_row_of_no_train_prompt_is_refused():
    with pytest.raises(IntegrityError, match="not of the train split: other"):
        found(dataclasses.replace(ROW, case_id="other"))


@pytest.mark.parametrize(
    ("plain", "hard", "share", "times"),
    [(100, 10, 0.5, 10), (100, 200, 0.5, 1), (90, 10, 0.1, 1), (99, 7, 0.5, 14), (100, 0, 0.5, 1)],
)
def test_hard_negatives_are_repeated_up_to_their_share(plain, hard, share, times):
    assert repeats_for(plain, hard, share) == times
    if hard and times > 1:
        assert hard * times / (hard * times + plain) <= share


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cases": 0}, "cases must be 1 or more, got 0"),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"share": 1.0}, r"share must be in \(0, 1\), got 1.0"),
        ({"attacks": ()}, "attacks must name one or more"),
        ({"preset": "huge"}, "preset must be one of"),
        ({"attacks": (AttackConfig(name="shuffle"),) * 2}, "shuffle is named twice"),
        ({"attacks": (AttackConfig(name="shuffle", targets=("base",)),)}, "its own target only"),
    ],
)
def test_a_faulty_section_is_refused_by_its_field(fields, message):
    with pytest.raises(ValueError, match=message):
        HardeningConfig(**fields)
