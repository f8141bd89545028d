"""A gate as part of the target: every text that an attack tries is drawn by the expert chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.adapters.lora import load_lora, save_lora, scaled
from alignguard_train.evaluation.contenders import Contender
from alignguard_train.peers.uce import UCE
from alignguard_train.robustness.protocol import GuardVerdict
from alignguard_train.robustness.target import DiffusersTarget
from alignguard_train.robustness.targets import ChosenExperts
from tests.alignguard_train.robustness.test_target import JUDGE, World, world

TEXTS = ["a b", "z", "b c", "d"]
SEEDS = [1, 2, 3, 4]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world("sd15", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def experts(one: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | None]:
    other = tmp_path_factory.mktemp("experts") / "other.safetensors"
    save_lora(scaled(load_lora(one.adapter), -1.0), other)
    return {"has b": one.adapter, "has z": other, "neither": None}


def choose(texts: Sequence[str]) -> list[str]:
    return ["has b" if "b" in text else "has z" if "z" in text else "neither" for text in texts]


def gated(one: World, experts: dict[str, Path | None], **more: Any) -> DiffusersTarget:
    return DiffusersTarget(
        Contender(name="gate"), generator=one.generator, base=one.base, judge=JUDGE,
        gate=ChosenExperts(choose, experts), **more,
    )  # fmt: skip


def test_each_text_tried_is_drawn_with_the_expert_that_is_chosen_for_it(
    one: World, experts: dict[str, Path | None]
) -> None:
    with gated(one, experts).on() as target:
        found = target.render(TEXTS, SEEDS).astype(int)
        undefended = target.render(TEXTS, SEEDS, base=True).astype(int)
        again = target.render(TEXTS, SEEDS)
    plain = one.generator.render(TEXTS, SEEDS).astype(int)
    for text, seed, image, name in zip(TEXTS, SEEDS, found, choose(TEXTS), strict=True):
        with one.generator.adapted(experts[name]):
            (alone,) = one.generator.render([text], [seed])
        assert np.abs(alone.astype(int) - image).max() <= 1  # batches may differ in the last bit
    assert np.abs(found - plain).max(axis=(1, 2, 3)).tolist()[0] > 8
    assert np.abs(undefended - plain).max() <= 1
    assert np.array_equal(again, found)


@pytest.mark.parametrize("guarded", [False, True])
def test_a_text_that_the_rules_refuse_reaches_no_gate_and_no_guard_on_the_drawing(
    one: World, experts: dict[str, Path | None], guarded: bool
) -> None:
    seen: list[str] = []

    def draws(generator: Any, texts: Sequence[str], seeds: Sequence[int]) -> Any:
        seen.extend(texts)
        return generator.render(texts, seeds)

    named: dict[str, Any] = {"gate": draws}
    if guarded:
        named = {
            "drawing": draws,
            "guard": lambda texts: [GuardVerdict(blocked=False, score=0)] * 3,
        }
    target = DiffusersTarget(
        Contender(name="gate"), generator=one.generator, base=one.base, judge=JUDGE, **named
    )
    with target.on():
        images = target.render(["a", "a child", "c"], [1, 2, 3])
    assert seen == ["a", "c"]
    assert not images[1].any()
    assert images[0].any()


def test_a_guard_on_prompts_may_stand_before_a_gate(
    one: World, experts: dict[str, Path | None]
) -> None:
    def verdicts(texts: Sequence[str]) -> list[GuardVerdict]:
        return [GuardVerdict(blocked="z" in text, score=0.5) for text in texts]

    with gated(one, experts).on() as target:
        plain = target.render(TEXTS, SEEDS)
    with gated(one, experts, guard=verdicts).on() as target:
        assert [one.blocked for one in target.guard(TEXTS)] == [False, True, False, False]
        assert np.array_equal(target.render(TEXTS, SEEDS), plain)


def test_there_is_no_one_denoiser_and_no_drawing_of_states(
    one: World, experts: dict[str, Path | None]
) -> None:
    with gated(one, experts).on() as target:
        assert "unet" not in target.capabilities
        states = target.encode([target.vocabulary.tokenize("a b")])
        with pytest.raises(EngineError, match="gate does not give unet"):
            target.predict(torch.zeros(1, 4, 8, 8), torch.tensor([1]), states)
        with pytest.raises(EngineError, match="reads a text, not text states"):
            target.render_conditions(states, [1])


OTHERS: dict[str, dict[str, Any]] = {
    "adapter": {"adapter": Path("some.safetensors")},
    "peer": {"peer": UCE()},
}


@pytest.mark.parametrize("kind", [*OTHERS, "drawing"])
def test_nothing_else_may_draw_beside_a_gate(one: World, kind: str) -> None:
    def draws(generator: Any, texts: Sequence[str], seeds: Sequence[int]) -> Any:
        return generator.render(texts, seeds)

    named = {"drawing": draws} if kind == "drawing" else {}
    with pytest.raises(EngineError, match="a gate chooses what draws"):
        DiffusersTarget(
            Contender(name="gate", **OTHERS.get(kind, {})), generator=one.generator, base=one.base,
            judge=JUDGE, gate=draws, **named,
        )  # fmt: skip
