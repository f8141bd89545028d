"""The three fine-tunings on tiny random Stable Diffusion 1.5 and XL."""

import dataclasses

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.base import BaseModel
from alignguard_train.reemergence.arithmetic import deltas, folded, own_weights
from alignguard_train.reemergence.benign import BenignRow, EncodedRows, encoded
from alignguard_train.reemergence.config import VARIANTS
from alignguard_train.reemergence.training import Tuned, benign_losses, fine_tune
from tests.alignguard_train.reemergence.world import KINDS, RECIPE, random_lora


@pytest.fixture(scope="module", params=KINDS)
def base(request, tmp_path_factory) -> BaseModel:
    folder = tmp_path_factory.mktemp("models") / request.param
    KINDS[request.param]().save_pretrained(folder, safe_serialization=True)
    return BaseModel(model=str(folder), device="cpu")


def rows(base: BaseModel, count: int = 5) -> EncodedRows:
    draw = np.random.default_rng(0)
    own = [
        BenignRow(
            place=str(number),
            caption=f"a ball {number}",
            image=draw.integers(0, 256, (16, 16, 3), dtype=np.uint8),
        )
        for number in range(count)
    ]
    return encoded(own, base)


def copied(tuned: Tuned) -> Tuned:
    return dataclasses.replace(
        tuned,
        weights={name: value.clone() for name, value in tuned.weights.items()},
        changes={name: value.clone() for name, value in tuned.changes.items()},
    )


def tuned(base, tmp_path, variant, *, steps=3, safety=None, name="c", at=None, **recipe):
    """The states after every step."""
    found: list[Tuned] = []
    fine_tune(
        base, rows(base), dataclasses.replace(RECIPE, **recipe), variant,
        safety=random_lora(base, 7) if safety is None else safety, seed=1, steps=steps,
        checkpoint=tmp_path / name, at=at or (lambda one: found.append(copied(one))),
        measured=frozenset(range(1, steps + 1)),
    )  # fmt: skip
    return found


def same(one: Tuned, other: Tuned) -> bool:
    return all(torch.equal(one.changes[name], other.changes[name]) for name in other.changes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_learns_and_leaves_the_base_model_as_it_was(base, tmp_path, variant):
    before = {name: p.clone() for name, p in own_weights(base.denoiser).items()}
    found = tuned(base, tmp_path, variant)
    assert [one.steps for one in found] == [1, 2, 3]
    assert set(found[-1].changes) == set(deltas(random_lora(base, 7)))
    assert all(change.abs().max() > 0 for change in found[-1].changes.values())
    after = own_weights(base.denoiser)
    assert set(after) == set(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in after.values())


def test_only_the_full_variant_trains_more_than_the_adapters_layers(base, tmp_path):
    (full,) = tuned(base, tmp_path, "full", steps=1, name="full")
    (stacked,) = tuned(base, tmp_path, "stacked", steps=1, name="stacked")
    assert full.lora is None
    assert set(full.weights) == set(own_weights(base.denoiser))
    assert stacked.lora is not None
    assert not stacked.weights


@pytest.mark.parametrize(("variant", "depends"), [("modular", False), ("stacked", True)])
def test_only_the_modular_one_is_trained_without_the_safety_adapter(
    base, tmp_path, variant, depends
):
    one = tuned(base, tmp_path, variant, safety=random_lora(base, 1), name="one")
    two = tuned(base, tmp_path, variant, safety=random_lora(base, 2), name="two")
    assert same(one[-1], two[-1]) != depends


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_training_resumes_to_the_same_weights(base, tmp_path, variant):
    whole = tuned(base, tmp_path, variant, name="whole")

    def kill(one: Tuned) -> None:
        if one.steps == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(base, tmp_path, variant, name="killed", at=kill)
    resumed = tuned(base, tmp_path, variant, name="killed")
    assert [one.steps for one in resumed] == [3], "the first two steps are in the checkpoint"
    assert same(resumed[-1], whole[-1])


def test_a_longer_training_passes_through_the_shorter_one(base, tmp_path):
    short = tuned(base, tmp_path, "stacked", steps=2, name="short")
    long = tuned(base, tmp_path, "stacked", steps=4, name="long")
    assert same(short[-1], long[1])


def test_the_error_falls_on_what_it_is_trained_on(base, tmp_path):
    own, losses = rows(base), []
    before = np.mean(benign_losses(base, own))
    tuned(
        base, tmp_path, "modular", steps=12, safety={}, lr=3e-2,
        at=lambda one: losses.append(np.mean(benign_losses(base, own))),
    )  # fmt: skip
    assert losses[-1] < before


def test_the_benign_loss_is_of_the_weights_as_they_are(base):
    own = rows(base)
    plain = benign_losses(base, own)
    assert len(plain) == 5
    assert benign_losses(base, own) == plain
    with folded(base.denoiser, random_lora(base, 7)):
        assert benign_losses(base, own) != plain
    assert benign_losses(base, own) == plain


def test_an_error_that_is_not_finite_is_refused(base, tmp_path):
    huge = {
        name: dataclasses.replace(layer, up=layer.up * float("inf"))
        for name, layer in random_lora(base, 1).items()
    }
    with pytest.raises(EngineError, match="the error is nan at step 1"):
        tuned(base, tmp_path, "stacked", safety=huge)


def test_float16_is_refused(tmp_path):
    KINDS["sd15"]().save_pretrained(tmp_path / "half", safe_serialization=True)
    half = BaseModel(model=str(tmp_path / "half"), device="cpu", dtype="float16")
    with pytest.raises(EngineError, match="float16 needs a gradient scaler"):
        fine_tune(
            half, rows(BaseModel(model=str(tmp_path / "half"), device="cpu")), RECIPE, "modular",
            safety={}, seed=0, steps=1, checkpoint=tmp_path / "c", at=lambda one: None,
            measured=frozenset({1}),
        )  # fmt: skip
