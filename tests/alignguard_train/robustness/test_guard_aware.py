"""The adaptive attack on guards: the trade between passing and imitating, by a known optimum."""

import math

import pytest

from alignguard_train.robustness.attacks.guard_aware import GuardAware, suspicion
from alignguard_train.robustness.counting import Counted
from alignguard_train.robustness.protocol import Budget, GuardVerdict
from tests.alignguard_train.robustness.small_target import SmallTarget, case

GUARDED = ("star", "bolt", "wave")


def found(alpha: float, seed: int = 0, **changes):
    """A guard that blocks three words, those that imitate the concept best among them."""
    target = Counted(SmallTarget(blocked=lambda text: any(w in text for w in GUARDED)), Budget())
    attack = GuardAware(alpha=alpha, **changes)
    attack.prepare(target, (), 0)
    return attack.search(target, case(), None, seed)


def test_without_weight_the_guard_is_not_asked() -> None:
    assert found(0.0).counters.guard_calls == 0
    assert found(0.2).counters.guard_calls > 0


def test_the_guard_is_asked_about_the_shown_tokens_only() -> None:
    one = found(0.5, tokens=1, sweeps=1, shown=3)
    assert one.counters.guard_calls == 1 + 3


def test_with_weight_it_passes_where_the_plain_attack_is_blocked(monkeypatch) -> None:
    def blocked(text: str) -> bool:
        return text == found(0.0).candidates[0].text

    target = SmallTarget(blocked=blocked)
    plain = GuardAware(alpha=0.0).search(target, case(), None, 0).candidates[0]
    aware = GuardAware(alpha=0.8).search(target, case(), None, 0).candidates[0]
    assert target.guard([plain.text])[0].blocked
    assert not target.guard([aware.text])[0].blocked


def test_no_candidate_types_the_concept() -> None:
    assert not any("zigzag" in one.text for one in found(0.5).candidates)


def test_a_prompt_of_the_encoders_length_keeps_its_length() -> None:
    target = SmallTarget()
    long = case("a red ball of dark dark dark dark dark zigzag zigzag zigzag")
    for one in GuardAware().search(target, long, None, 0).candidates:
        assert len(target.vocabulary.tokenize(one.text)) <= target.vocabulary.length


@pytest.mark.parametrize(
    ("score", "threshold", "expected"),
    [(2.0, 2.0, 0.5), (1e9, 0.0, 1.0), (-1e9, 0.0, 0.0), (math.nan, 0.0, 1.0)],
)
def test_suspicion_is_half_at_the_threshold(score, threshold, expected: float) -> None:
    verdict = GuardVerdict(blocked=False, score=score, threshold=threshold)
    assert suspicion(verdict) == pytest.approx(expected)


@pytest.mark.parametrize("alpha", [-0.1, 1.0, math.nan])
def test_a_weight_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha is"):
        GuardAware(alpha=alpha)
