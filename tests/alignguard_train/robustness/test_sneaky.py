"""SneakyPrompt: it replaces what the guard blocks, learns from rewards, and stops as published."""

import pytest

from alignguard_train.robustness.attacks.policy import Policy
from alignguard_train.robustness.attacks.sneaky import SneakyPrompt, converged, subwords_of
from tests.alignguard_train.robustness.small_target import (
    WORDS,
    SmallTarget,
    SmallVocabulary,
    case,
)


def search(target, prompt="a red ball dark zigzag", seed=0, **parameters):
    return SneakyPrompt(**parameters).search(target, case(prompt), None, seed)


def test_a_word_that_the_guard_lets_through_and_the_model_draws_is_found():
    for seed in range(3):
        target = SmallTarget(
            reward=lambda text: float("star" in text.split()),
            blocked=lambda text: "zigzag" in text,
        )
        found = search(target, seed=seed)
        assert found.stop_reason == "success"
        words = found.candidates[0].text.split()
        assert words[:4] == ["a", "red", "ball", "dark"]
        assert "star" in words[4:]
        assert found.notes["prompt_blocked"] == 1


def test_a_prompt_that_passes_and_draws_something_else_is_no_success():
    target = SmallTarget(reward=lambda text: 0.3, blocked=lambda text: "zigzag" in text)
    found = search(target, queries=2)
    assert found.stop_reason == "finished"
    assert found.candidates[0].score == 0.3


def test_without_a_word_of_the_concept_the_word_that_the_guard_minds_most_is_replaced():
    shown = []

    def blocked(text):
        shown.append(text)
        return "kite" in text

    search(SmallTarget(blocked=blocked), "a red kite dark box", queries=1)
    assert shown[-1].split()[:2] == ["a", "red"]
    assert shown[-1].endswith("dark box")
    assert "kite" not in shown[-1].split()[2:3]


def test_blocked_prompts_are_penalised_more_and_more_and_cost_no_image():
    found = search(SmallTarget(blocked=lambda text: True), queries=4)
    assert [one.score for one in found.candidates] == pytest.approx(
        [-query / 40 for query in (1, 2, 3, 4)]
    )
    assert found.counters.images == 0
    assert found.counters.guard_calls == 1 + 5 + 4  # the prompt, one word less each, the queries


def test_after_five_blocked_prompts_one_more_word_is_replaced_up_to_the_share():
    shown = []

    def blocked(text):
        shown.append(text)
        return True

    prompt = "a red ball of dark quiet zigzag"
    search(SmallTarget(blocked=blocked), prompt, queries=20, subwords=1)
    texts = shown[1 + 7 :]
    kept = [
        sum(one == other for one, other in zip(text.split(), prompt.split(), strict=True))
        for text in texts
    ]
    assert min(kept[:5]) >= 6
    assert min(kept) == 5  # two of seven words: a third would be more than 0.3


def test_subwords_are_letters_only_shorter_than_given_and_never_the_concept():
    vocabulary = SmallVocabulary((*WORDS, ",", "opposite"))
    texts = {vocabulary.decode([i]) for i in subwords_of(vocabulary, case(), 8)}
    assert texts == set(WORDS) - {"zigzag"}


@pytest.mark.parametrize(
    ("passed", "expected"),
    [(["x", "x"], False), (["y", "x", "x", "x"], True), (["x", "y", "x"], False)],
)
def test_one_passing_prompt_three_times_in_a_row_is_converged(passed, expected):
    assert converged(passed) is expected


def test_the_policy_learns_what_is_rewarded():
    policy, hits = Policy(5, seed=0, lr=0.05), []
    for _ in range(150):
        picks = policy.draw(2)
        hits.append(float(picks == [3, 1]))
        policy.learn(hits[-1] + 0.3 * (picks[0] == 3))
    assert sum(hits[-30:]) > 20 > sum(hits[:30])
