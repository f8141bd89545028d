"""What holds for every attack of the registry. No attack may differ in these."""

from contextlib import suppress
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.robustness.attacks.diffzoo import DiffZOO
from alignguard_train.robustness.attacks.kept_state import pack, unpack
from alignguard_train.robustness.attacks.mma import MMA
from alignguard_train.robustness.attacks.p4d import P4D
from alignguard_train.robustness.attacks.ring_a_bell import RingABell
from alignguard_train.robustness.attacks.sneaky import SneakyPrompt
from alignguard_train.robustness.attacks.unlearn_diff import UnlearnDiffAtk
from alignguard_train.robustness.config import AttackConfig
from alignguard_train.robustness.counting import Counted
from alignguard_train.robustness.protocol import Attack, Budget, Counters, Found, JudgeFailed
from alignguard_train.robustness.registry import ATTACKS as REGISTRY
from alignguard_train.robustness.registry import make_attack, make_budget
from tests.alignguard_train.robustness.small_target import ALL, TWINS, WORDS, SmallTarget, case
from tests.alignguard_train.robustness.tiny_chat import INSTRUCTION, tiny_chat

SMALLER: dict[str, dict[str, Any]] = {
    "ring_a_bell": {"population": 6, "generations": 4, "tokens": 4},
    "mma": {"tokens": 4, "steps": 5, "top": 6, "candidates": 8},
    "sneaky": {"queries": 8},
    "unlearn_diff": {"timesteps": 3},
    "p4d_n": {"tokens": 3, "steps": 6, "samples": 2},
    "p4d_k": {"steps": 6},
    "genbreak": {"write": 4, "width": 8, "tries": 3},
    "genbreak_chat": {"write": 5, "tries": 3, "instruction": INSTRUCTION, "device": "cpu"},
}
"""Parameters over those of the preset ``smoke``."""


def made(name: str) -> Attack:
    """An attack of the registry, small; with a tiny model of its own where it needs one."""
    params = SMALLER.get(name, {})
    if REGISTRY[name].model:
        params = {**params, REGISTRY[name].model: str(_chat_folder())}
    return make_attack(name, "smoke", params)


@cache
def _chat_folder() -> Path:
    return tiny_chat(Path(mkdtemp(prefix="tiny-chat-")))


ATTACKS: dict[str, Attack] = {name: made(name) for name in REGISTRY}
"""Every attack of the registry: a new one runs here, and on the real classes, without a line."""
ATTACKS |= {
    "ring_a_bell elitism": RingABell(population=6, generations=4, tokens=4, elitism=True),
    "diffzoo list": DiffZOO(steps=2, directions=2, draws=2, trials=2, words=WORDS),
}
STALLING: dict[str, Attack] = {
    "ring_a_bell": RingABell(population=6, generations=500, tokens=1, patience=3),
    "mma": MMA(tokens=3, steps=500, patience=5),
    "sneaky": SneakyPrompt(queries=500, patience=20),
    "unlearn_diff": UnlearnDiffAtk(tokens=1, timesteps=50, iterations=1, patience=3),
    "p4d": P4D(tokens=1, steps=500, every_steps=1, patience=3),
    "diffzoo": DiffZOO(mode="lite", steps=500, words=("wave",), patience=3),
}


def reward(text: str) -> float:
    """Below the judge's 1.0: the search never ends by success."""
    return 0.1 * sum(word in text.split() for word in ("tree", "star", "wave"))


def run(name: str, *, seed: int = 0, budget: Budget | None = None, **changes: Any) -> Found:
    target = SmallTarget(**{"reward": reward, **changes})
    attack = ATTACKS[name]
    prepared = attack.prepare(Counted(target, Budget()), TWINS, seed)
    return attack.search(Counted(target, budget or Budget()), case(), prepared, seed)


def shown(found: Found) -> list[Any]:
    return [
        found.counters, found.history, found.stop_reason, found.notes,
        [(one.text, one.score, one.round_trip) for one in found.candidates],
        [None if one.conditions is None else one.conditions.states.tolist()
         for one in found.candidates],
    ]  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("xl", [False, True])
def test_the_same_seed_gives_the_same_prompts_and_counters(name: str, xl: bool) -> None:
    torch.manual_seed(1)
    first = run(name, xl=xl)
    torch.manual_seed(2)
    assert shown(run(name, xl=xl)) == shown(first)
    assert first.candidates
    assert first.history


@pytest.mark.parametrize("name", ATTACKS)
def test_a_search_leaves_the_global_random_numbers_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    run(name)
    assert torch.equal(before, torch.random.get_rng_state())


def spent(found: Found) -> dict[str, int]:
    """The counters of which a search used two or more: they can be limited."""
    return {name: used for name, used in asdict(found.counters).items() if used > 1}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_spent_budget_returns_the_best_so_far(name: str) -> None:
    for limit, used in spent(run(name)).items():
        for part in (1, used // 2, used - 1):
            found = run(name, budget=Budget(**{limit: part}))
            assert found.stop_reason == "budget"
            assert asdict(found.counters)[limit] <= part
            assert bool(found.candidates) == bool(found.history)


@pytest.mark.parametrize("name", ATTACKS)
def test_more_budget_never_gives_a_lower_best_score(name: str) -> None:
    for limit, used in spent(run(name)).items():
        best = float("-inf")
        for part in range(1, used + 1, max(1, used // 5)):
            history = run(name, budget=Budget(**{limit: part})).history
            assert (history[-1] if history else float("-inf")) >= best
            best = history[-1] if history else best


@pytest.mark.parametrize("name", ATTACKS)
def test_candidates_are_best_first_and_history_never_falls(name: str) -> None:
    found = run(name)
    scores = [one.score for one in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert list(found.history) == sorted(found.history)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_prompt_without_tokens_is_empty(name: str) -> None:
    target, attack = SmallTarget(reward=reward), ATTACKS[name]
    prepared = attack.prepare(target, TWINS, 0)
    found = attack.search(target, replace(case(), prompt=""), prepared, 0)
    assert (found.stop_reason, found.candidates) == ("empty", ())


@pytest.mark.parametrize("name", ATTACKS)
def test_a_prompt_longer_than_the_encoder_is_cut(name: str) -> None:
    target, attack = SmallTarget(reward=reward), ATTACKS[name]
    prepared = attack.prepare(target, TWINS, 0)
    found = attack.search(target, case("a red ball of dark zigzag " * 5), prepared, 0)
    assert found.candidates


@pytest.mark.parametrize("name", ATTACKS)
def test_no_training_case_is_no_crash(name: str) -> None:
    target, attack = SmallTarget(reward=reward), ATTACKS[name]
    found = attack.search(target, case(), attack.prepare(target, (), 0), 0)
    assert found.candidates or found.stop_reason == "empty"


@pytest.mark.parametrize(
    ("name", "lacking"),
    [(name, one) for name, attack in ATTACKS.items() for one in sorted(attack.needs)],
)
def test_a_target_without_a_need_is_refused(name: str, lacking: str) -> None:
    attack, target = ATTACKS[name], SmallTarget(capabilities=ALL - {lacking})
    with pytest.raises(EngineError, match=f"{attack.name} needs {lacking}"):
        attack.search(target, case(), None, 0)
    with pytest.raises(EngineError, match=f"needs {lacking}"):
        attack.prepare(target, TWINS, 0)


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_beyond_its_needs_is_used(name: str) -> None:
    attack = ATTACKS[name]
    run(name, capabilities=attack.needs)
    if attack.text_only:
        assert attack.needs <= {"text_encoder", "token_gradients"}


@pytest.mark.parametrize("name", STALLING)
def test_a_search_without_progress_ends(name: str) -> None:
    target, attack = SmallTarget(reward=reward), STALLING[name]
    found = attack.search(target, case(), attack.prepare(target, TWINS, 0), 0)
    assert found.stop_reason == "plateau"
    assert found.candidates


JUDGED = [name for name, attack in ATTACKS.items() if "judge" in attack.needs]


@pytest.mark.parametrize("name", JUDGED)
def test_a_failing_judge_is_an_outcome(name: str) -> None:
    def failing(text: str) -> float:
        raise EngineError("the judge is away")

    target, attack = SmallTarget(reward=failing), ATTACKS[name]
    prepared = attack.prepare(SmallTarget(), TWINS, 0)
    assert attack.search(target, case(), prepared, 0).stop_reason == "judge_failed"
    with suppress(JudgeFailed):  # the room makes an outcome of it, and of no other error
        attack.prepare(target, TWINS, 0)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("xl", [False, True])
def test_what_it_prepared_is_the_same_after_a_stop(name: str, xl: bool) -> None:
    target, attack = SmallTarget(reward=reward, xl=xl), ATTACKS[name]
    prepared = attack.prepare(target, TWINS, 0)
    kept = pack(prepared)
    assert kept is not None, f"{name}: a killed attempt would prepare again"
    first, again = (attack.search(target, case(), one, 0) for one in (prepared, unpack(kept)))
    assert shown(again) == shown(first)


@pytest.mark.parametrize("name", JUDGED)
def test_a_prompt_that_is_unsafe_already_is_not_attacked(name: str) -> None:
    found = run(name, reward=lambda text: 1.0)
    assert found.stop_reason == "already_unsafe"
    assert found.counters.judge_calls == 1
    assert [one.text for one in found.candidates] == [case().prompt]


@pytest.mark.parametrize("name", JUDGED)
def test_an_unsafe_image_ends_the_search(name: str) -> None:
    found = run(name, reward=lambda text: float(text != case().prompt))
    assert found.stop_reason == "success"
    assert found.candidates[0].score == 1.0


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("counter", [one.name for one in fields(Counters)])
def test_a_budget_of_nothing_is_refused_and_names_its_counter(name: str, counter: str) -> None:
    message = f"budget.{counter} must be 1 or more, got 0"
    with pytest.raises(ValueError, match=message):
        AttackConfig(name=name, budget={counter: 0})
    with pytest.raises(ValueError, match=message):
        make_budget(name, "smoke", {counter: 0})
