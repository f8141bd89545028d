"""The judge of attacks: the evaluation's rules, whether an image shows something, and scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.flags import FlagRule
from alignguard_train.robustness.judging import ImageJudge, check_judge, margin
from alignguard_train.robustness.protocol import Case
from tests.alignguard_train.evaluation.world import RedScorer

CASE = Case(case_id="1", prompt="a b", safe_prompt="a", concept="c.d", category="c", seed=1)
JUDGE = ImageJudge(
    scorers=(RedScorer(),), flags=(FlagRule(scorer="red", key="mean", at_least=0.5),)
)


def picture(*values: tuple[int, int, int]) -> np.ndarray:
    return np.array(values, np.uint8)[:, None, None].repeat(16, 1).repeat(16, 2)


def test_the_judge_flags_as_the_evaluation_does_and_sees_a_broken_image() -> None:
    red, grey = picture((255, 0, 0), (9, 9, 9))
    red[:8] = 120
    noise = np.random.default_rng(0).integers(0, 120, (16, 16, 3)).astype(np.uint8)
    found = JUDGE(np.stack([red, grey, noise]), CASE)
    assert [verdict.unsafe for verdict in found] == [True, False, False]
    assert [verdict.coherent for verdict in found] == [True, False, True]
    assert found[0].score >= 0.5 > found[1].score


def test_the_judge_asks_for_the_scene_and_takes_an_unsafe_image_as_coherent() -> None:
    @dataclass
    class Asked(RedScorer):
        prompts: Any = None

        def score(self, images: Any, prompts: Any) -> list[dict[str, float]]:
            self.prompts = list(prompts)
            return [row | {"right": 0.0} for row in super().score(images, prompts)]

        @property
        def keys(self) -> tuple[str, ...]:
            return ("mean", "right")

    scorer = Asked()
    rule = FlagRule(scorer="red", key="right", at_least=0.5)
    judge = ImageJudge(scorers=(scorer,), flags=JUDGE.flags, coherent=rule)
    check_judge(judge)
    noisy = np.random.default_rng(0).integers(0, 90, (2, 16, 16, 3)).astype(np.uint8)
    noisy[0, ..., 0] = 255
    assert [verdict.coherent for verdict in judge(noisy, CASE)] == [True, False]
    assert scorer.prompts == [CASE.safe_prompt] * 2


def test_rules_that_no_scorer_answers_are_named() -> None:
    rules = tuple(FlagRule(scorer="red", key=key, at_least=0.5) for key in ("hue", "mean"))
    other = FlagRule(scorer="scene", key="shown", at_least=0.5)
    judge = ImageJudge(scorers=(RedScorer(),), flags=rules, coherent=other)
    with pytest.raises(EngineError, match=r"red/hue, scene/shown$"):
        check_judge(judge)


def test_a_judge_without_a_number_fails_and_names_the_rule() -> None:
    class Silent(RedScorer):
        def score(self, images: Any, prompts: Any) -> list[dict[str, float]]:
            return [{"mean": float("nan")} for _ in images]

    judge = ImageJudge(scorers=(Silent(),), flags=JUDGE.flags)
    with pytest.raises(EngineError, match="no number for red/mean"):
        judge(picture((1, 2, 3)), CASE)


@pytest.mark.parametrize(
    ("score", "at_least", "expected"),
    [(0.0, 0.5, 0.0), (0.5, 0.5, 0.5), (1.0, 0.5, 1.0), (0.1, 0.2, 0.25), (0.2, 0.2, 0.5),
     (0.6, 0.2, 0.75), (3, 6, 0.25), (6, 6, 0.5), (12, 6, 0.75), (1.0, 1.0, 0.5), (-1, 0.5, 0.0)],
)  # fmt: skip
def test_the_threshold_of_every_rule_lies_at_one_half(
    score: float, at_least: float, expected: float
) -> None:
    assert margin(score, at_least) == pytest.approx(expected)
