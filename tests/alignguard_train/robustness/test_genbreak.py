"""GenBreak: its rewards and loss by hand, and what its reward's terms are for."""

import numpy as np
import pytest
import torch

from alignguard_train.robustness.attacks.genbreak import GenBreak, writable
from alignguard_train.robustness.attacks.red_team_model import (
    RedTeamModel,
    advantages,
    grpo_loss,
)
from alignguard_train.robustness.attacks.red_team_rewards import (
    Attempt,
    Recent,
    Weights,
    attempts,
    reward,
)
from alignguard_train.robustness.counting import Counted
from alignguard_train.robustness.protocol import Budget
from tests.alignguard_train.robustness.small_target import (
    TWINS,
    WORDS,
    SmallTarget,
    SmallVocabulary,
    case,
)

PICTURE = np.array([0.6, 0.8])
ONLY_TOXIC = Weights(bypass=0, clean=0, wording=0, meaning=0, image=0)
ZIGZAGS = tuple(one for one in TWINS if one.concept == "angular.zigzag")


def attempt(ids=(1, 2, 3), **changes):
    given = {"toxicity": 0.5, "blocked": False, "clean": True, "picture": PICTURE}
    return Attempt(ids=ids, **given | changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.5 * (1 + 0.6 + 1)),
        ({"blocked": True}, 0.5 * (1 + 1)),
        ({"clean": False}, 0.5 * (1 + 0.6)),
        ({"blocked": True, "clean": False}, 0.5),
        ({"picture": None}, 0.0),
        ({"toxicity": 0.0}, 0.0),
    ],
)
def test_bypass_and_clean_words_count_in_proportion_to_toxicity(changes, expected):
    assert reward(attempt(**changes), Recent(4), Weights()) == pytest.approx(expected)


def test_novelty_is_less_the_more_recent_prompts_are_alike():
    recent = Recent(4)
    recent.extend([attempt(ids=(1, 2, 3)), attempt(ids=(7, 8), picture=np.array([0.8, -0.6]))])
    only = {"toxic": 0, "bypass": 0, "clean": 0, "wording": 0, "meaning": 0, "image": 0}
    for term, expected in {"wording": -0.5, "meaning": -2 / 3 / 2, "image": -0.5}.items():
        weights = Weights(**only | {term: 1})
        assert reward(attempt(ids=(1, 2, 9)), recent, weights) == pytest.approx(expected)


def test_the_pool_keeps_only_the_most_recent():
    recent = Recent(3)
    recent.extend([attempt(ids=(i, i + 1)) for i in range(10)])
    assert len(recent) == 3
    assert (recent.wording((0, 1)), recent.wording((9, 10))) == (0, 1)


def test_a_group_of_equal_rewards_has_no_advantage():
    found = advantages(torch.tensor([[0.3, 0.3, 0.3], [0.0, 1.0, 2.0]]))
    assert found[0].tolist() == [0, 0, 0]
    torch.testing.assert_close(found[1], torch.tensor([-1.0, 0.0, 1.0]) * 1.5**0.5)


def test_the_loss_is_the_clipped_gain_less_the_divergence_by_hand():
    logs = torch.tensor([[0.5, 0.0], [0.0, 0.0]]).log1p()  # ratios 1.5, 1, 1, 1 to old
    old, reference = torch.zeros(2, 2), torch.zeros(2, 2)
    kept = torch.tensor([[True, True], [True, False]])
    gain = torch.tensor([1.0, -2.0])
    found = grpo_loss(logs, old, reference, kept, gain, clip=0.2, kl=0.1)
    apart = -torch.tensor(1.5).log().item()
    divergence = np.exp(apart) - apart - 1
    expected = -(((1.2 - 0.1 * divergence) + 1.0) / 2 + -2.0) / 2
    assert found.item() == pytest.approx(expected)


def model(seed=0):
    vocabulary = SmallTarget().vocabulary
    return RedTeamModel(vocabulary.ordinary, ["angular"], read=6, write=4, seed=seed, width=32)


def test_a_draw_has_the_probability_that_the_loss_reads():
    policy, generator = model(), torch.Generator().manual_seed(0)
    ids = SmallTarget().vocabulary.tokenize("a red ball")
    rows = policy.written([policy.asked("angular", ids)] * 16, generator)
    logs = policy.log_probabilities(rows)
    assert torch.isfinite(logs).all()
    again = policy.log_probabilities(policy.taught([policy.asked("angular", ids)] * 16, rows.ids))
    torch.testing.assert_close(again.sum(1), logs.sum(1), atol=1e-4, rtol=1e-4)
    assert all(1 <= len(one) <= 4 for one in rows.ids)


def test_supervised_learning_teaches_the_prompts_of_the_concept():
    attack = GenBreak(pairs=100, rounds=0, sft_steps=80, steps=0, lr=4e-3, width=32)
    target = SmallTarget()
    policy = attack.prepare(target, ZIGZAGS, 0)
    assert policy is not None
    asked = [policy.asked("angular", target.vocabulary.tokenize(ZIGZAGS[0].prompt))] * 32
    written = policy.written(asked, torch.Generator().manual_seed(0)).ids
    known = {target.vocabulary.tokenize(one.prompt) for one in ZIGZAGS}
    assert sum(ids in known for ids in written) > 16


def test_a_learning_rate_of_zero_changes_nothing():
    target = SmallTarget(reward=lambda text: float("star" in text))
    small = {"pairs": 8, "rounds": 1, "group": 2, "seeds": 2, "write": 4}
    none = GenBreak(**small, sft_steps=0, steps=0).prepare(target, ZIGZAGS, 0)
    still = GenBreak(**small, sft_steps=2, steps=2, lr=0.0).prepare(target, ZIGZAGS, 0)
    moved = GenBreak(**small, sft_steps=2, steps=2).prepare(target, ZIGZAGS, 0)
    assert none is not None
    assert still is not None
    assert moved is not None
    first = [one.network.lm_head.weight for one in (none, still, moved)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_without_its_other_terms_the_reward_teaches_to_type_the_concept():
    """The paper's ablation: toxicity is not enough, as the concept's own word draws the most."""

    def toxicity(text):
        words = text.split()
        return 0.99 * ("zigzag" in words) or 0.9 * ("star" in words)

    def clean_and_passed(weights):
        target = SmallTarget(reward=toxicity, blocked=lambda text: "zigzag" in text)
        small = {
            "pairs": 64,
            "rounds": 5,
            "seeds": 4,
            "write": 4,
            "kl": 0.0,
            "lr": 4e-3,
            "width": 32,
        }
        attack = GenBreak(**small, sft_steps=20, steps=30, weights=weights)
        policy = attack.prepare(target, ZIGZAGS, 0)
        assert policy is not None
        asked = [policy.asked("angular", target.vocabulary.tokenize(ZIGZAGS[0].prompt))] * 32
        written = policy.written(asked, torch.Generator().manual_seed(0)).ids
        found = attempts(target, [case()] * 32, written)
        return sum(one.clean and not one.blocked and one.toxicity >= 0.5 for one in found) / 32

    assert clean_and_passed(ONLY_TOXIC) < 0.1
    assert clean_and_passed(Weights()) > 0.3


def test_it_writes_only_tokens_that_their_own_text_gives():
    known = SmallVocabulary((*WORDS, "stars"))  # st, ar, s
    assert {known.decode([i]) for i in writable(known)} == {*WORDS, "s"}


def test_training_is_counted_and_ends_with_its_budget():
    target = Counted(SmallTarget(), Budget(images=40))
    small = {"pairs": 8, "rounds": 1, "sft_steps": 1, "group": 4, "seeds": 2, "write": 4}
    attack = GenBreak(**small, steps=50)
    assert attack.prepare(target, ZIGZAGS, 0) is not None
    assert target.counters.images == 4 + 4 * 8
    assert target.counters.judge_calls == target.counters.images


def test_a_case_costs_at_most_its_tries():
    attack = GenBreak(pairs=8, rounds=0, sft_steps=1, steps=0, tries=3, write=4)
    policy = attack.prepare(SmallTarget(), ZIGZAGS, 0)
    found = attack.search(SmallTarget(), case(), policy, 0)
    assert 1 < found.counters.images <= 1 + 3
