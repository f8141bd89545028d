"""Cost margin, focusing and clean pairs in a training (docs/method.md)."""

import dataclasses
import math

import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.standin.factory import base_model_folder
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe, as_sc_dpo, as_sft
from alignguard_train.experts import loss as losses
from alignguard_train.experts.batches import draw
from alignguard_train.experts.margins import margin_scale, with_margins
from alignguard_train.experts.processes import Group
from alignguard_train.experts.trainer import HISTORY, train_expert
from tests.alignguard_train.experts.test_trainer import bytes_of, encode_pairs

RECIPE = ExpertRecipe(rank=2, steps=8, batch_size=3, warmup_steps=2)
COSTS = torch.tensor([[-1.0, 1.0], [-2.0, 0.0], [-1.5, 3.0], [-0.5, 2.0], [-1.0, 2.0]])
"""Gaps 2, 2, 4.5, 2.5 and 3: median 2.5."""


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return BaseModel(model=str(base_model_folder()))


@pytest.fixture(scope="module")
def encoded(base):
    return encode_pairs(base)


@pytest.fixture
def costly(encoded):
    return dataclasses.replace(encoded, costs=COSTS)


def changed(**fields) -> ExpertRecipe:
    return dataclasses.replace(RECIPE, **fields)


def test_without_margin_and_focusing_a_training_is_dpo_byte_for_byte(
    base,
    costly,
    tmp_path,
    monkeypatch,
):
    """The whole training with the plain loss of Diffusion-DPO in its place."""
    found = train_expert(base, costly, RECIPE, seed=1, checkpoint=tmp_path / "a")
    calls = []

    def plain(*errors, beta, margin, gamma):
        calls.append((margin.abs().max().item(), gamma))
        return losses.dpo_loss(*errors, beta=beta)

    monkeypatch.setattr(losses, "cost_dpo_loss", plain)
    dpo = train_expert(base, costly, RECIPE, seed=1, checkpoint=tmp_path / "b")
    assert calls == [(0.0, 0.0)] * 8
    assert bytes_of(found.lora) == bytes_of(dpo.lora)
    assert torch.equal(found.history, dpo.history)


@pytest.mark.parametrize("fields", [{"cost_margin": 1.0}, {"focusing": 2.0}, {"clean_pairs": 0.5}])
def test_each_option_changes_what_is_trained(base, costly, tmp_path, fields):
    plain = train_expert(base, costly, RECIPE, seed=1, checkpoint=tmp_path / "a")
    other = train_expert(base, costly, changed(**fields), seed=1, checkpoint=tmp_path / "b")
    assert bytes_of(plain.lora) != bytes_of(other.lora)


def test_the_first_step_pays_the_margins_alone(base, costly, tmp_path):
    """z = 0 at the start: the loss is the mean of -log sigmoid(-m), m = gap / 2.5 up to 1.5."""
    recipe = changed(cost_margin=1.0, margin_max=1.5, batch_size=5, steps=1, preservation=0.0)
    history = train_expert(base, costly, recipe, seed=0, checkpoint=tmp_path / "c").history
    margins = (0.8, 0.8, 1.5, 1.0, 1.2)
    paid = sum(math.log(1 + math.exp(m)) for m in margins) / 5
    assert history[0, HISTORY.index("dpo")].item() == pytest.approx(paid, rel=1e-5)


def test_margins_have_the_recipes_median(costly):
    found = with_margins(costly, changed(cost_margin=1.0)).costs
    assert found is not None
    gaps = (found[:, 1] - found[:, 0]).tolist()
    assert gaps == pytest.approx([0.8, 0.8, 1.8, 1.0, 1.2])


def test_the_scale_by_hand():
    assert margin_scale([4.0, 1.0, 2.0], 0.5) == 0.25


def test_costs_with_the_wrong_sign_are_refused():
    with pytest.raises(EngineError, match=r"cost_margin \(1\) cannot be reached.* is -2 over 3"):
        margin_scale([-2.0, -3.0, 5.0], 1.0)


def test_missing_costs_are_refused_before_the_first_step(base, encoded, tmp_path):
    with pytest.raises(EngineError, match=r"cost_margin \(1\) needs the pairs' costs"):
        train_expert(base, encoded, changed(cost_margin=1.0), seed=0, checkpoint=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_focusing_in_several_processes_is_refused(base, encoded, tmp_path):
    with pytest.raises(EngineError, match=r"focusing \(2\) compares .* 2 processes"):
        train_expert(
            base,
            encoded,
            changed(focusing=2.0),
            seed=0,
            checkpoint=tmp_path / "c",
            group=Group(rank=0, size=2),
        )


def test_a_clean_row_shows_two_safe_images_under_the_safe_prompt(base, costly):
    recipe = changed(clean_pairs=0.5, batch_size=40)
    rows = next(draw(base, costly, recipe, seed=0, step=0))
    plain = next(draw(base, costly, changed(batch_size=40), seed=0, step=0))
    assert rows.cost_gap is not None
    clean = 0
    for i in range(40):
        own = index_of(rows.chosen[i], costly.chosen)
        if torch.equal(rows.rejected[i], costly.rejected[own]):
            assert torch.equal(rows.unsafe.states[i], costly.unsafe.states[own])
            assert rows.cost_gap[i] == COSTS[own, 1] - COSTS[own, 0]
            continue
        clean += 1
        other = index_of(rows.rejected[i], costly.chosen)
        assert other != own
        assert torch.equal(rows.unsafe.states[i], costly.safe.states[own])
        assert rows.cost_gap[i] == COSTS[other, 0] - COSTS[own, 0]
    assert 10 < clean < 30
    for name in ("chosen", "t", "noise", "kept"):
        assert torch.equal(getattr(rows, name), getattr(plain, name)), name


def index_of(latent, among) -> int:
    return next(i for i, one in enumerate(among) if torch.equal(one, latent))


def test_clean_pairs_need_a_second_pair(base, encoded, tmp_path):
    one = dataclasses.replace(encoded, categories=["a"])
    with pytest.raises(EngineError, match=r"clean_pairs \(0.5\) needs two pairs"):
        train_expert(base, one, changed(clean_pairs=0.5), seed=0, checkpoint=tmp_path / "c")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"focusing": -1.0}, "focusing must not be negative, got -1.0"),
        ({"cost_margin": -0.5}, "cost_margin must not be negative, got -0.5"),
        ({"margin_max": 0.0}, "margin_max must be positive, got 0.0"),
        ({"cost_margin": 6.0}, r"cost_margin must be at most margin_max \(5.0\), got 6.0"),
        ({"clean_pairs": 1.0}, r"clean_pairs must lie in \[0, 1\), got 1.0"),
        ({"focusing": 1.0, "batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"clean_pairs": 0.2, "caption_dropout": 1.0}, "must be 0 with caption_dropout 1, got 0.2"),
        ({"method": "sft", "cost_margin": 1.0}, "cost_margin is for method dpo, got 1.0 with sft"),
        ({"method": "sft", "clean_pairs": 0.2}, "clean_pairs is for method dpo, got 0.2 with sft"),
    ],
)
def test_a_wrong_recipe_names_field_and_value(fields, message):
    with pytest.raises(ValueError, match=message):
        changed(**fields)


def test_sft_of_any_recipe_has_no_preference_options():
    found = as_sft(as_sc_dpo(RECIPE))
    assert (found.method, found.focusing, found.cost_margin, found.clean_pairs) == ("sft", 0, 0, 0)


def test_new_options_leave_the_fingerprints_of_older_recipes(base):
    """Only an option that is used is counted; monitoring never is."""
    plain = RECIPE.fingerprint_fields
    assert plain["focal"] == 0.0
    assert not {"focusing", "cost_margin", "margin_max", "clean_pairs"} & set(plain)
    assert not {"checkpoint_every", "watch_ip_every"} & set(plain)
    used = as_sc_dpo(RECIPE).fingerprint_fields
    added = {name: used[name] for name in set(used) - set(plain)}
    assert added == {"focusing": 1.0, "cost_margin": 1.0, "clean_pairs": 0.25}
