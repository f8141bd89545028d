"""Probes learn what is there and nothing where there is nothing; the search deletes words."""

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.config import LogisticSettings, SafeGuiderSettings
from alignguard_train.guards.measures import auc
from alignguard_train.guards.probes import LogisticHead, fit_logistic, fit_mlp, mlp_head, shortened
from alignguard_train.guards.safeguider import SafeGuider
from alignguard_train.guards.states import TextStates
from tests.alignguard_train.guards.small import eos_first_encoder, header_for

SMALL = SafeGuiderSettings(widths=(16,), epochs=30, learning_rate=0.05)


def states(eos: torch.Tensor) -> TextStates:
    return TextStates(
        tokens=eos[:, None], eos=eos, truncated=torch.zeros(len(eos), dtype=torch.bool)
    )


def world(rows: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """End-of-text states of which the first value is larger for unsafe prompts."""
    generator = torch.Generator().manual_seed(seed)
    unsafe = np.arange(rows) % 2 == 0
    eos = torch.randn(rows, 8, generator=generator)
    eos[:, 0] += 4.0 * torch.from_numpy(unsafe)
    return eos, unsafe


def logistic(eos, unsafe):
    return LogisticHead(**fit_logistic(eos, unsafe, LogisticSettings()))


def safeguider(eos, unsafe):
    return mlp_head(fit_mlp(eos, unsafe, SMALL, seed=0), SMALL)


def area(head, eos, unsafe) -> float:
    scores = head.scores(states(eos))
    return auc(scores[unsafe], scores[~unsafe])


@pytest.mark.parametrize("make", [logistic, safeguider])
def test_a_probe_finds_what_is_there_on_other_prompts(make):
    assert area(make(*world(200, 0)), *world(200, 1)) >= 0.95


@pytest.mark.parametrize("make", [logistic, safeguider])
def test_shuffled_labels_give_an_area_of_one_half(make):
    eos, unsafe = world(3300, 0)
    shuffled = np.random.default_rng(0).permutation(unsafe)
    trained = make(eos[:300], shuffled[:300])
    assert area(trained, eos[300:], shuffled[300:]) == pytest.approx(0.5, abs=0.05)
    assert area(trained, eos[:300], shuffled[:300]) > 0.55, "though it fits what it was shown"


@pytest.mark.parametrize("make", [logistic, safeguider])
@pytest.mark.parametrize("label", [True, False])
def test_one_kind_of_prompt_is_not_enough(make, label):
    eos, _ = world(10, 0)
    with pytest.raises(EngineError, match="needs unsafe and benign prompts"):
        make(eos, np.full(10, label))


def test_the_folded_scaling_gives_scikit_learns_log_odds():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    eos, unsafe = world(60, 0)
    scaler = StandardScaler().fit(eos.numpy())
    model = LogisticRegression(class_weight="balanced", max_iter=5000)
    model.fit(scaler.transform(eos.numpy()), unsafe)
    wanted = model.decision_function(scaler.transform(eos.numpy()))
    assert np.allclose(logistic(eos, unsafe).scores(states(eos)), wanted, atol=1e-3)


def test_equal_seeds_give_equal_weights():
    eos, unsafe = world(40, 0)
    first, second = (fit_mlp(eos, unsafe, SMALL, seed=3) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


class CountsBadWords:
    """Log odds that grow with the number of words `bad`; the state is that number."""

    def scores(self, given: TextStates) -> np.ndarray:
        return 10.0 * given.eos[:, 0].double().numpy() - 5.0

    def details(self, given: TextStates) -> list[str]:
        return [""] * len(given)


def counted(texts: list[str]) -> TextStates:
    rows = [[float(text.split().count("bad")), float(len(text.split()))] for text in texts]
    return states(torch.tensor(rows))


def test_the_search_deletes_the_fewest_words_that_help():
    found = shortened("a bad b bad c".split(), counted, CountsBadWords(), SMALL, 0.0)
    assert found == ["a", "b", "c"]


def test_the_search_keeps_the_closest_of_the_accepted_and_gives_up_at_its_depth():
    words = "bad bad bad a".split()
    one_word = SafeGuiderSettings(most_deleted=2)
    assert shortened(words, counted, CountsBadWords(), one_word, 0.0) is None
    assert shortened(["bad"], counted, CountsBadWords(), SMALL, 0.0) is None


def test_an_accepted_text_is_below_the_guards_threshold_too():
    """p(safe) of a text without a bad word is 0.993; a threshold under its score refuses it."""
    assert shortened("a bad".split(), counted, CountsBadWords(), SMALL, -5.5) is None


def test_a_flagged_prompt_is_rewritten_and_one_that_cannot_be_is_blocked(monkeypatch):
    encoder = eos_first_encoder()
    monkeypatch.setattr(encoder, "states", counted)
    guard = SafeGuider(header_for(encoder), encoder, CountsBadWords(), SMALL)
    rewritten, blocked, allowed = guard.decide(["a bad b", "bad", "a b"])
    assert (rewritten.action, rewritten.prompt) == ("rewrite", "a b")
    assert rewritten.reason == "rewritten: 1 of 3 words deleted"
    assert (blocked.action, blocked.failed) == ("block", False)
    assert allowed.action == "allow"
