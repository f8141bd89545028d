"""Training on the shipped stand-in base: it learns, repeats to the byte, resumes to the byte."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.standin.factory import base_model_folder
from alignguard_train.adapters.lora import load_lora
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings.encoder import EncodedPreferences, encode_prompts
from alignguard_train.experts.trainer import HISTORY, learning_rate, train_expert

RECIPE = ExpertRecipe(rank=2, steps=8, batch_size=3, warmup_steps=2)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return BaseModel(model=str(base_model_folder()))


@pytest.fixture(scope="module")
def encoded(base) -> EncodedPreferences:
    return encode_pairs(base)


def encode_pairs(base: BaseModel) -> EncodedPreferences:
    """Five pairs with real text states and random latents."""
    draw = torch.Generator().manual_seed(0)
    prompts = [f"a red circle number {i}" for i in range(5)]
    return EncodedPreferences(
        concepts=["a.x", "a.x", "b.x", "b.y", "b.y"],
        categories=["a", "a", "b", "b", "b"],
        chosen=torch.randn(5, 4, 8, 8, generator=draw),
        rejected=torch.randn(5, 4, 8, 8, generator=draw),
        unsafe=encode_prompts([f"{p} with a star" for p in prompts], base),
        safe=encode_prompts(prompts, base),
        empty=encode_prompts([""], base),
    )


def bytes_of(lora):
    return {n: (x.down.numpy().tobytes(), x.up.numpy().tobytes()) for n, x in lora.items()}


def test_the_margin_grows(base, encoded, tmp_path):
    recipe = dataclasses.replace(RECIPE, steps=30, preservation=0.0)
    history = train_expert(base, encoded, recipe, seed=0, checkpoint=tmp_path / "c").history
    margin = history[:, HISTORY.index("margin")]
    assert margin[0].item() == pytest.approx(0.0, abs=1e-6)  # up starts at zero: policy = reference
    assert margin[-5:].mean() > 0.01


def test_the_same_seed_gives_the_same_bytes_whatever_ran_before(base, encoded, tmp_path):
    first = train_expert(base, encoded, RECIPE, seed=1, checkpoint=tmp_path / "a").lora
    torch.manual_seed(12345)
    torch.rand(7)
    again = train_expert(base, encoded, RECIPE, seed=1, checkpoint=tmp_path / "b").lora
    other = train_expert(base, encoded, RECIPE, seed=2, checkpoint=tmp_path / "c").lora
    assert bytes_of(first) == bytes_of(again)
    assert bytes_of(first) != bytes_of(other)


def test_the_base_model_is_left_as_it_was(base, encoded, tmp_path):
    before = {n: p.clone() for n, p in base.pipe.unet.named_parameters()}
    train_expert(base, encoded, RECIPE, seed=0, checkpoint=tmp_path / "c")
    after = dict(base.pipe.unet.named_parameters())
    assert set(before) == set(after)
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_only_attention_projections_are_adapted(base, encoded, tmp_path):
    lora = train_expert(base, encoded, RECIPE, seed=0, checkpoint=tmp_path / "c").lora
    ends = {name.split(".", name.count(".") - name.endswith("to_out.0"))[-1] for name in lora}
    assert ends == {"to_q", "to_k", "to_v", "to_out.0"}


def test_nan_stops_with_a_clear_error(base, encoded, tmp_path):
    poisoned = dataclasses.replace(encoded, chosen=encoded.chosen * float("nan"))
    with pytest.raises(EngineError, match="NaN or infinity at step 0"):
        train_expert(base, poisoned, RECIPE, seed=0, checkpoint=tmp_path / "c")


def test_no_pair_is_a_clear_error(base, encoded, tmp_path):
    none = dataclasses.replace(encoded, categories=[])
    with pytest.raises(EngineError, match="no pair to train on"):
        train_expert(base, none, RECIPE, seed=0, checkpoint=tmp_path / "c")


def test_learning_rate_warms_up_and_falls_to_its_floor():
    """2 warm-up steps of 11, peak 1, floor 0.1: 0.5, 1, then 1 - 0.9 * (s - 2) / 8."""
    recipe = ExpertRecipe(steps=11, warmup_steps=2, lr=1.0, lr_floor=0.1)
    found = [learning_rate(recipe, s) for s in (0, 1, 2, 6, 10)]
    assert found == pytest.approx([0.5, 1.0, 1.0, 0.55, 0.1])


@pytest.mark.parametrize(("steps", "warmup"), [(2, 0), (30, 0), (30, 10), (11, 9), (500, 20)])
def test_the_last_step_has_the_floor_whatever_the_number_of_steps(steps, warmup):
    recipe = ExpertRecipe(steps=steps, warmup_steps=warmup, lr=2.0, lr_floor=0.25)
    assert learning_rate(recipe, steps - 1) == pytest.approx(0.5)
    assert learning_rate(recipe, warmup) == pytest.approx(2.0), (
        "and the first after warm-up the peak"
    )


KILLED = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from tests.alignguard_train.experts.test_trainer import RECIPE, BaseModel
from tests.alignguard_train.experts.test_trainer import base_model_folder, encode_pairs
from alignguard_train.adapters.lora import save_lora
from alignguard_train.experts.trainer import train_expert
base = BaseModel(model=str(base_model_folder()))
folder = Path(sys.argv[1])
checkpoint = folder / "c.safetensors"
trained = train_expert(base, encode_pairs(base), RECIPE, seed=5, checkpoint=checkpoint)
save_lora(trained.lora, folder / "lora.safetensors")
(folder / "resumed").write_text(str(trained.resumed_at))
"""


def test_training_goes_on_from_an_adapter_against_the_base_model(base, encoded, tmp_path):
    """The reference stays the base model: the first margin is the first adapter's, not zero."""
    first = train_expert(base, encoded, RECIPE, seed=0, checkpoint=tmp_path / "a").lora
    still = dataclasses.replace(RECIPE, steps=1, lr=1e-12)
    kept = train_expert(base, encoded, still, seed=1, checkpoint=tmp_path / "b", start=first)
    assert kept.history[0, HISTORY.index("margin")].abs() > 1e-4
    for name, layer in first.items():
        assert torch.allclose(kept.lora[name].delta, layer.delta, atol=1e-6)


def test_an_adapter_of_another_rank_cannot_be_gone_on_from(base, encoded, tmp_path):
    first = train_expert(base, encoded, RECIPE, seed=0, checkpoint=tmp_path / "a").lora
    other = dataclasses.replace(RECIPE, rank=3)
    with pytest.raises(EngineError, match="does not fit the recipe"):
        train_expert(base, encoded, other, seed=0, checkpoint=tmp_path / "b", start=first)
    assert not any("lora" in name for name, _ in base.pipe.unet.named_parameters())


def start(folder: Path) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    repository = Path(__file__).parents[3]
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)],
        cwd=repository,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_killed_and_resumed_the_weights_are_those_of_an_undisturbed_run(tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert start(calm).wait(timeout=200) == 0
    process = start(killed)
    deadline = time.monotonic() + 200
    while not (killed / "c.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "lora.safetensors").exists()
    assert start(killed).wait(timeout=200) == 0
    assert int((killed / "resumed").read_text()) > 0
    found, wanted = (load_lora(f / "lora.safetensors") for f in (killed, calm))
    assert bytes_of(found) == bytes_of(wanted)
