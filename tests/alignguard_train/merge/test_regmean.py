"""RegMean against an independent least-squares solver, and what it promises on a real UNet."""

import pytest
import torch

from alignguard_data.standin.factory import base_model_folder
from alignguard_train.adapters.lora import Lora, LoraLayer, relative_error
from alignguard_train.base import BaseModel
from alignguard_train.encodings.encoder import EncodedPreferences, encode_prompts
from alignguard_train.merge.config import MergeConfig
from alignguard_train.merge.regmean import MomentMeter, regmean


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return BaseModel(model=str(base_model_folder()))


def random_expert(base: BaseModel, seed: int) -> Lora:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: LoraLayer(
            torch.randn(2, module.in_features, generator=draw),
            torch.randn(module.out_features, 2, generator=draw) * 0.1,
        )
        for name, module in base.pipe.unet.named_modules()
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
    }


def pairs(base: BaseModel) -> EncodedPreferences:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    states = encode_prompts(["a red circle", "a blue box"], base)
    return EncodedPreferences(
        concepts=["a.x", "b.x"], categories=["a", "b"], chosen=latents, rejected=latents,
        unsafe=states, safe=states, empty=states[:1],
    )  # fmt: skip


def layers(count: int, inputs: int) -> list[LoraLayer]:
    draw = torch.Generator().manual_seed(7)
    return [
        LoraLayer(
            torch.randn(2, inputs, generator=draw, dtype=torch.float64),
            torch.randn(3, 2, generator=draw, dtype=torch.float64),
        )
        for _ in range(count)
    ]


def test_the_merge_is_the_least_squares_solution():
    """sum_k mean |delta x - delta_k x|^2 + s mean |delta x|^2, by torch's own solver on the
    stacked inputs, each category's divided by the root of its number of tokens.
    """
    experts, s = layers(2, 5), 0.7
    draw = torch.Generator().manual_seed(1)
    own = [torch.randn(n, 5, generator=draw, dtype=torch.float64) for n in (40, 9)]
    safe = torch.randn(12, 5, generator=draw, dtype=torch.float64)
    meter = MomentMeter(experts, s)
    for number, x in enumerate(own):
        meter.add(x[:5].float())  # in two parts, as batches come
        meter.add(x[5:].float())
        meter.close(number)
    meter.add(safe.float())
    meter.close(None)
    found = sum(layer.up @ down for layer, down in zip(experts, meter.downs(1e-12), strict=True))

    rows = [x / len(x) ** 0.5 for x in own] + [safe * (s / len(safe)) ** 0.5]
    wanted = [x @ e.delta.T for x, e in zip(rows, experts, strict=False)] + [torch.zeros(12, 3)]
    solved = torch.linalg.lstsq(torch.cat(rows), torch.cat(wanted)).solution.T
    assert torch.allclose(found, solved, atol=1e-5)


def test_experts_of_inputs_that_share_no_direction_keep_all_they_do():
    first, second = layers(2, 4)
    meter = MomentMeter([first, second], 0.0)
    draw = torch.Generator().manual_seed(2)
    mine, other = torch.zeros(30, 4), torch.zeros(30, 4)
    mine[:, :2], other[:, 2:] = torch.randn(2, 30, 2, generator=draw)
    for number, x in enumerate((mine, other)):
        meter.add(x)
        meter.close(number)
    downs = meter.downs(1e-9)
    merged = first.up @ downs[0] + second.up @ downs[1]
    assert torch.allclose(merged @ mine.double().T, first.delta @ mine.double().T, atol=1e-5)
    assert torch.allclose(merged @ other.double().T, second.delta @ other.double().T, atol=1e-5)


def test_the_heavier_safe_inputs_weigh_the_less_they_are_changed():
    experts = layers(2, 5)
    draw = torch.Generator().manual_seed(3)
    own, safe = torch.randn(2, 40, 5, generator=draw), torch.randn(40, 5, generator=draw)
    moved = []
    for weight in (0.0, 1.0, 100.0):
        meter = MomentMeter(experts, weight)
        for number, x in enumerate(own):
            meter.add(x)
            meter.close(number)
        meter.add(safe)
        meter.close(None)
        ups = zip(experts, meter.downs(1e-9), strict=True)
        delta = sum(layer.up @ down for layer, down in ups)
        moved.append(float((safe.double() @ delta.T).pow(2).mean()))
    assert moved[0] > 1.5 * moved[1] > 1.5 * 10 * moved[2]


def test_one_expert_alone_stays_itself_where_it_has_inputs(base):
    """With a ridge of nearly nothing; where no input reaches, nothing is asked."""
    expert = random_expert(base, 3)
    config = MergeConfig(calibration_timesteps=64, safe_weight=0.0, ridge=1e-12)
    lora = regmean(base, [expert], ["a"], pairs(base), config)
    thin = [n for n in lora if ".attn1.to_q" in n or ".attn1.to_k" in n]
    assert relative_error({n: lora[n] for n in thin}, {n: expert[n] for n in thin}) < 1e-3


def test_it_is_an_ordinary_lora_whose_up_matrices_are_the_experts(base):
    experts = [random_expert(base, 1), random_expert(base, 2)]
    config = MergeConfig(calibration_timesteps=2)
    lora = regmean(base, experts, ["a", "b"], pairs(base), config)
    for name, layer in lora.items():
        assert torch.equal(layer.up, torch.cat([expert[name].up for expert in experts], dim=1))
        assert layer.down.shape == (4, experts[0][name].down.shape[1])


def test_a_category_without_pairs_is_named(base):
    with pytest.raises(ValueError, match="category c "):
        regmean(base, [random_expert(base, 1)], ["c"], pairs(base), MergeConfig())
