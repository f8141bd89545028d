"""Adapter files: kohya's format and back, what an expert's files say, stacking with a style."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.shards import sha256_file
from alignguard_train.adapters.lora import (
    KOHYA_WEIGHTS,
    WEIGHTS,
    LoraLayer,
    load_kohya,
    load_lora,
    save_kohya,
    save_lora,
)
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.experts.reader import weights_of
from alignguard_train.experts.room import TENSORBOARD, make_expert
from alignguard_train.merge.strategies import weighted_sum
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_train.encodings.test_room import RELEASE, write_release

RECIPE = ExpertRecipe(rank=2, steps=2, batch_size=2, warmup_steps=0)


def modules(base: BaseModel) -> list[str]:
    return [name for name, _ in base.pipe.unet.named_modules()]


def random_lora(base: BaseModel, seed: int) -> dict[str, LoraLayer]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: LoraLayer(
            torch.randn(2, layer.in_features, generator=draw) * 0.3,
            torch.randn(layer.out_features, 2, generator=draw) * 0.3,
        )
        for name, layer in base.pipe.unet.named_modules()
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
    }


def test_kohyas_format_and_back_is_the_same_adapter(base, tmp_path):
    lora = random_lora(base, 0)
    save_kohya(lora, tmp_path / "k.safetensors")
    back = load_kohya(tmp_path / "k.safetensors", modules(base))
    assert list(back) == sorted(lora)
    assert all(torch.equal(back[n].up, lora[n].up) for n in lora)
    assert all(torch.equal(back[n].down, lora[n].down) for n in lora)


def test_another_alpha_goes_into_the_weights(base, tmp_path):
    """Alpha 1 at rank 2 halves the delta."""
    lora = random_lora(base, 0)
    path = tmp_path / "k.safetensors"
    save_kohya(lora, path)
    tensors = load_file(path)
    halved = {k: torch.tensor(1.0) if k.endswith("alpha") else x for k, x in tensors.items()}
    save_file(halved, path)
    back = load_kohya(path, modules(base))
    assert all(torch.allclose(back[n].delta, lora[n].delta / 2) for n in lora)


@pytest.mark.parametrize("fault", ["a layer of another network", "half a layer"])
def test_a_file_that_does_not_fit_is_named(base, tmp_path, fault):
    path = tmp_path / "k.safetensors"
    save_kohya(random_lora(base, 0), path)
    tensors = load_file(path)
    if fault == "half a layer":
        tensors.pop(next(k for k in tensors if "lora_up" in k))
    known = [] if fault != "half a layer" else modules(base)
    save_file(tensors, path)
    with pytest.raises(IntegrityError, match=r"k\.safetensors is not a kohya LoRA of this UNet"):
        load_kohya(path, known)


@pytest.fixture(scope="module")
def expert(base, tmp_path_factory) -> Path:
    """The generation folder of an expert of one category."""
    data = write_release(DataRoot(root=tmp_path_factory.mktemp("data"), profile="tiny"))
    manifest = make_expert(data, "a", ["a"], base, RECIPE, seed=0)
    manifest.verify(data.partition("experts", "a"))
    generation = manifest.file(WEIGHTS).name.partition("/")[0]
    return data.partition("experts", "a") / generation


def test_an_experts_two_files_are_the_same_adapter(base, expert):
    plain, kohya = load_lora(expert / WEIGHTS), load_kohya(expert / KOHYA_WEIGHTS, modules(base))
    assert all(torch.equal(plain[n].delta, kohya[n].delta) for n in plain)


def test_an_experts_header_and_card_say_what_made_it(base, expert):
    for file in (WEIGHTS, KOHYA_WEIGHTS):
        with safe_open(expert / file, "pt") as opened:
            said = opened.metadata()
        recipe = json.loads(said["alignguard.recipe"])
        assert (recipe["steps"], recipe["categories"], recipe["seed"]) == (2, ["a"], 0)
        assert said["alignguard.release"] == RELEASE
        assert said["alignguard.base_revision"] == base.revision
        assert said["alignguard.expert"] == "a"
        assert "torch" in said["alignguard.versions"]
    card = (expert / "README.md").read_text()
    for fact in (RELEASE, base.revision, "| steps | 2 |", KOHYA_WEIGHTS):
        assert fact in card


def test_tensorboards_files_belong_to_no_content_id(expert):
    assert list((expert.parent / TENSORBOARD).glob("*/events.out.tfevents.*"))
    files = manifests.require(expert.parent).files
    assert not [file for file in files if TENSORBOARD in file.name]


def test_two_trainings_have_the_same_content_id(base, tmp_path, expert):
    data = write_release(DataRoot(root=tmp_path, profile="tiny"))
    again = make_expert(data, "a", ["a"], base, RECIPE, seed=0)
    assert again.content_id == manifests.require(expert.parent).content_id
    assert sha256_file(expert / WEIGHTS) == again.file("pytorch_lora_weights.safetensors").sha256


def draw(pipe) -> np.ndarray:
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return pipe(
        "a b c", num_inference_steps=2, latents=noise, output_type="np", height=16, width=16
    ).images


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")  # that is the point
def test_an_adapter_stacks_with_a_users_style(base, tmp_path):
    """`set_adapters` with both draws what the sum of both deltas draws: both act in full."""
    loras = {"safety": random_lora(base, 1), "style": random_lora(base, 2)}
    pipe = tiny_pipe("epsilon")
    pipe.set_progress_bar_config(disable=True)
    found = {"none": draw(pipe)}
    both = weighted_sum(list(loras.values()), [1.0, 1.0])
    for name, lora in {**loras, "sum": both}.items():
        save_lora(lora, tmp_path / name / WEIGHTS)
        pipe.load_lora_weights(str(tmp_path / name), weight_name=WEIGHTS, adapter_name=name)
    for names in (["safety"], ["style"], ["sum"], ["safety", "style"]):
        pipe.set_adapters(names)
        found["+".join(names)] = draw(pipe)
    stacked = found.pop("safety+style")
    assert np.abs(stacked - found.pop("sum")).max() < 1e-4
    assert all(np.abs(stacked - other).max() > 0.01 for other in found.values())


@pytest.mark.slow
def test_the_room_trains_with_two_processes_as_with_one(base, tmp_path, expert):
    """To 1e-4 of the weights' size; the GPUs' number is no reason to train again."""
    data = write_release(DataRoot(root=tmp_path, profile="tiny"))
    steps: list[int] = []
    shared = make_expert(data, "a", ["a"], base, RECIPE, seed=0, processes=2, progress=steps.append)
    assert sum(steps) == RECIPE.steps
    assert expert.name.startswith(shared.fingerprint)
    one = load_lora(expert / WEIGHTS)
    two = load_lora(weights_of(data, "a"))
    for name, layer in one.items():
        assert (layer.up - two[name].up).norm() <= 1e-4 * layer.up.norm()
