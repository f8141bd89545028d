"""The counting proxy: every row counts, no call exceeds the budget, no capability is borrowed."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.robustness.counting import Counted, check_needs
from alignguard_train.robustness.protocol import Budget, BudgetSpent, Case, Counters

CASE = Case(case_id="a", prompt="p", safe_prompt="s", concept="c.d", category="c", seed=1)
ALL = frozenset(
    ("text_encoder", "token_gradients", "unet", "base_unet", "images", "judge", "guard")
)


class Everything:
    """A target whose outputs have the right shapes."""

    name = "everything"
    capabilities: Any = ALL
    vocabulary: Any = None

    def encode(self, tokens: Any) -> Conditions:
        return Conditions(states=torch.zeros(len(tokens), 2, 2))

    def encode_soft(self, weights: torch.Tensor) -> Conditions:
        return Conditions(states=weights * 2)

    def latents(self, images: Any) -> torch.Tensor:
        return torch.zeros(len(images), 1, 1, 1)

    def noised(self, latents: Any, noise: Any, timesteps: Any) -> Any:
        return latents, noise

    def predict(self, noised: Any, timesteps: Any, conditions: Any, *, base: bool = False) -> Any:
        return conditions.states * 3

    def render(self, texts: Any, seeds: Any, *, base: bool = False) -> Any:
        return np.zeros((len(texts), 1, 1, 3), np.uint8)

    def render_conditions(self, conditions: Any, seeds: Any) -> Any:
        return np.zeros((len(seeds), 1, 1, 3), np.uint8)

    def judge(self, images: Any, case: Any) -> Any:
        return [None] * len(images)

    def guard(self, texts: Any) -> Any:
        return [None] * len(texts)


STATES = Conditions(states=torch.zeros(3, 2, 2))
CALLS = {
    "encode": (lambda t: t.encode([[1], [2], [3]]), {"text_forwards": 3}, "text_encoder"),
    "encode_soft": (
        lambda t: t.encode_soft(torch.zeros(3, 2, 2)), {"text_forwards": 3}, "token_gradients",
    ),
    "predict": (
        lambda t: t.predict(torch.zeros(3, 1), torch.zeros(3), STATES),
        {"unet_forwards": 3}, "unet",
    ),
    "predict base": (
        lambda t: t.predict(torch.zeros(3, 1), torch.zeros(3), STATES, base=True),
        {"unet_forwards": 3}, "base_unet",
    ),
    "latents": (lambda t: t.latents(np.zeros((3, 1, 1, 3))), {}, "unet"),
    "noised": (lambda t: t.noised(None, None, None), {}, "unet"),
    "render": (lambda t: t.render(["a", "b", "c"], [1, 2, 3]), {"images": 3}, "images"),
    "render base": (
        lambda t: t.render(["a", "b", "c"], [1, 2, 3], base=True), {"images": 3}, "base_unet",
    ),
    "render_conditions": (
        lambda t: t.render_conditions(STATES, [1, 2, 3]), {"images": 3}, "images",
    ),
    "judge": (lambda t: t.judge(np.zeros((3, 1, 1, 3)), CASE), {"judge_calls": 3}, "judge"),
    "guard": (lambda t: t.guard(["a", "b", "c"]), {"guard_calls": 3}, "guard"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_each_row_of_a_call_is_counted(name: str) -> None:
    call, expected, _ = CALLS[name]
    counted = Counted(Everything(), Budget())
    call(counted)
    assert counted.counters == Counters(**expected)


@pytest.mark.parametrize("name", [name for name, (_, used, _) in CALLS.items() if used])
def test_a_call_over_the_budget_is_not_made(name: str) -> None:
    call, expected, _ = CALLS[name]
    counted = Counted(Everything(), Budget(**{key: value - 1 for key, value in expected.items()}))
    with pytest.raises(BudgetSpent, match=next(iter(expected))):
        call(counted)
    assert counted.counters == Counters()


@pytest.mark.parametrize("name", [name for name, (_, used, _) in CALLS.items() if used])
def test_a_call_that_uses_the_budget_up_is_made(name: str) -> None:
    call, expected, _ = CALLS[name]
    counted = Counted(Everything(), Budget(**expected))
    call(counted)
    assert counted.counters == Counters(**expected)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_without_its_capability_is_refused(name: str) -> None:
    call, _, capability = CALLS[name]
    target = Everything()
    target.capabilities = ALL - {capability}
    with pytest.raises(EngineError, match=f"everything does not give {capability}"):
        call(Counted(target, Budget()))


def test_every_method_of_the_target_is_tried_here() -> None:
    methods = {name for name in vars(Counted) if not name.startswith("_")} - {"counters"}
    assert methods == {name.partition(" ")[0] for name in CALLS}


def test_a_gradient_counts_when_it_is_computed() -> None:
    counted = Counted(Everything(), Budget())
    weights = torch.zeros(3, 2, 2, requires_grad=True)
    states = counted.encode_soft(weights)
    assert counted.counters == Counters(text_forwards=3)
    counted.predict(torch.zeros(3, 1), torch.zeros(3), states).sum().backward()
    assert counted.counters == Counters(
        text_forwards=3, text_backwards=3, unet_forwards=3, unet_backwards=3
    )
    assert weights.grad is not None
    assert torch.equal(weights.grad, torch.full((3, 2, 2), 6.0))


@pytest.mark.parametrize("part", ["states", "pooled", "both"])
def test_a_gradient_counts_once_from_whichever_states_it_comes(part: str) -> None:
    class TwoEncoders(Everything):
        def encode_soft(self, weights: torch.Tensor) -> Conditions:
            return Conditions(states=weights * 2, pooled=weights.sum(1))

    counted = Counted(TwoEncoders(), Budget())
    weights = torch.zeros(3, 2, 2, requires_grad=True)
    found = counted.encode_soft(weights)
    assert found.pooled is not None
    sums = {"states": found.states.sum(), "pooled": found.pooled.sum()}
    (sums[part] if part in sums else sums["states"] + sums["pooled"]).backward()
    assert counted.counters == Counters(text_forwards=3, text_backwards=3)


def test_no_gradient_is_offered_that_the_budget_does_not_hold() -> None:
    counted = Counted(Everything(), Budget(text_backwards=2))
    with pytest.raises(BudgetSpent, match="text_backwards"):
        counted.encode_soft(torch.zeros(3, 2, 2, requires_grad=True))


@pytest.mark.parametrize("name", [one.name for one in fields(Budget)])
@pytest.mark.parametrize("value", [0, -1])
def test_a_budget_below_one_is_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"budget\.{name} must be 1 or more, got {value}"):
        Budget(**{name: value})


def test_an_attack_names_everything_that_its_target_lacks() -> None:
    class Greedy:
        name = "greedy"
        needs: Any = frozenset(("unet", "guard", "images"))
        text_only = False

    target = Everything()
    target.capabilities = frozenset(("images",))
    with pytest.raises(EngineError, match=r"greedy needs guard, unet, .* everything"):
        check_needs(Greedy(), target)  # pyright: ignore[reportArgumentType]
