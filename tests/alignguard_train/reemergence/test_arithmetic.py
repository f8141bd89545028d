"""Sums and probes against numbers derived by hand."""

import pytest
import torch

from alignguard_train.adapters.live import live_adapter
from alignguard_train.adapters.lora import LoraLayer, scaled
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.reemergence.arithmetic import (
    deltas,
    folded,
    length,
    own_weight,
    own_weights,
    summed,
    undoing,
    undone_share,
    unfit_layers,
)
from tests.alignguard_train.reemergence.world import random_lora


def layer(down: list[list[float]], up: list[list[float]]) -> LoraLayer:
    return LoraLayer(torch.tensor(down), torch.tensor(up))


# s = [1 0]^T [2 1] = [[2, 1], [0, 0]];  f = [0 1]^T [1 3] = [[0, 0], [1, 3]]
S = {"a": layer([[2.0, 1.0]], [[1.0], [0.0]])}
F = {"a": layer([[1.0, 3.0]], [[0.0], [1.0]])}


@pytest.mark.parametrize(
    ("weight", "wanted"),
    [
        (1.0, [[2.0, 1.0], [1.0, 3.0]]),  # s + f
        (-1.0, [[2.0, 1.0], [-1.0, -3.0]]),  # s - f, the first probe
        (0.5, [[2.0, 1.0], [0.5, 1.5]]),
    ],
)
def test_a_sum_of_adapters_is_the_sum_of_their_deltas(weight, wanted):
    assert torch.equal(summed(S, F, weight=weight)["a"].delta, torch.tensor(wanted))


def test_a_layer_of_one_adapter_only_is_kept_and_subtracted():
    found = summed(S, {"b": F["a"]}, weight=-1.0)
    assert torch.equal(found["a"].delta, S["a"].delta)
    assert torch.equal(found["b"].delta, -F["a"].delta)


def test_the_second_probe_is_the_negative_adapter():
    assert torch.equal(scaled(S, -1.0)["a"].delta, torch.tensor([[-2.0, -1.0], [0.0, 0.0]]))


# <f, s> / (|f| |s|) with s = (3, 4), |s| = 5
@pytest.mark.parametrize(
    ("change", "cosine", "share"),
    [
        ([-3.0, -4.0], 1.0, 1.0),  # takes the adapter away
        ([-1.5, -2.0], 1.0, 0.5),  # half of it
        ([3.0, 4.0], -1.0, -1.0),  # doubles it
        ([4.0, -3.0], 0.0, 0.0),  # orthogonal
        ([-5.0, 0.0], 15 / 25, 15 / 25),  # -<f, s> = 15; |f| |s| = 25; <s, s> = 25
        ([0.0, 0.0], 0.0, 0.0),
    ],
)
def test_undoing_is_the_cosine_with_the_negative_adapter(change, cosine, share):
    safety = {"a": torch.tensor([[3.0, 4.0]])}
    tuned = {"a": torch.tensor([change]), "not in the adapter": torch.full((1, 2), 9.0)}
    assert undoing(tuned, safety) == pytest.approx(cosine)
    assert undone_share(tuned, safety) == pytest.approx(share)


def test_the_cosine_is_over_all_layers_together():
    """s = (1, 0 | 0, 2), f = (-1, 0 | 0, 0): <f, s> = -1, |f| = 1, |s| = sqrt 5."""
    safety = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.0, 2.0]])}
    tuned = {"a": torch.tensor([[-1.0, 0.0]]), "b": torch.zeros(1, 2)}
    assert undoing(tuned, safety) == pytest.approx(5**-0.5)
    assert length(safety) == pytest.approx(5**0.5)


def test_folding_adds_the_delta_and_takes_it_off_bit_for_bit(base):
    lora = random_lora(base, 3)
    name = next(iter(lora))
    before = {n: p.clone() for n, p in own_weights(base.denoiser).items()}
    with folded(base.denoiser, lora, weight=-2.0):
        found = own_weight(base.denoiser, name)
        assert torch.allclose(found, before[f"{name}.weight"] - 2 * lora[name].delta, atol=1e-5)
    assert all(torch.equal(before[n], p) for n, p in own_weights(base.denoiser).items())


def test_folding_works_under_a_trainable_adapter(base):
    lora = random_lora(base, 3)
    name = next(iter(lora))
    before = own_weight(base.denoiser, name).clone()
    with live_adapter(base, ExpertRecipe(rank=2), 0), folded(base.denoiser, lora):
        found = own_weight(base.denoiser, name)
        assert torch.allclose(found, before + lora[name].delta, atol=1e-5)
    assert torch.equal(own_weight(base.denoiser, name), before)


def test_an_adapter_of_the_model_fits_and_others_are_named_by_layer(base):
    lora = random_lora(base, 0)
    name = next(iter(lora))
    assert not unfit_layers(base.denoiser, lora)
    strange = {"down_blocks.9.to_q": lora[name]}
    wide = {name: LoraLayer(torch.zeros(2, 99), lora[name].up)}
    assert unfit_layers(base.denoiser, strange) == ["down_blocks.9.to_q is no layer of it"]
    (fault,) = unfit_layers(base.denoiser, wide)
    assert name in fault
    assert "99 here" in fault


def test_deltas_are_of_every_layer():
    assert torch.equal(deltas(S)["a"], S["a"].up @ S["a"].down)
