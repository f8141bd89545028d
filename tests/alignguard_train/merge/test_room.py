"""The merged adapter is an ordinary LoRA: plain diffusers loads it and draws what we draw."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open

from alignguard_data.contracts.errors import ConfigError, IntegrityError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.standin.factory import base_model_folder
from alignguard_data.storage.paths import DataRoot
from alignguard_train.adapters.card import render_adapter_card
from alignguard_train.adapters.lora import (
    KOHYA_WEIGHTS,
    WEIGHTS,
    LoraLayer,
    load_lora,
    save_kohya,
    save_lora,
)
from alignguard_train.base import BaseModel
from alignguard_train.encodings.encoder import EncodedPreferences, encode_prompts
from alignguard_train.merge.calibration import measure_activity
from alignguard_train.merge.config import MergeConfig
from alignguard_train.merge.room import make_merges
from alignguard_train.merge.strategies import merge

PROMPT, SEED = "a meadow with a green kite at the top", 11

VANILLA = """
import sys
import numpy as np, torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1])
pipe.load_lora_weights(sys.argv[2], weight_name=sys.argv[6])
noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(int(sys.argv[4])))
made = pipe(sys.argv[3], num_inference_steps=4, guidance_scale=3.0, latents=noise,
            height=32, width=32, output_type="np").images
np.save(sys.argv[5], made)
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"alignguard_data", "alignguard_train", "pipelines"}
"""


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return BaseModel(model=str(base_model_folder()))


def random_expert(base: BaseModel, seed: int) -> dict[str, LoraLayer]:
    """A LoRA on every attention projection, large enough to change the image."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: LoraLayer(
            torch.randn(2, module.in_features, generator=draw) * 0.1,
            torch.randn(module.out_features, 2, generator=draw) * 0.1,
        )
        for name, module in base.pipe.unet.named_modules()
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
    }


def calibration(base: BaseModel) -> EncodedPreferences:
    draw = torch.Generator().manual_seed(0)
    states = encode_prompts(["a red circle", "a blue box"], base)
    latents = torch.randn(2, 4, 8, 8, generator=draw)
    return EncodedPreferences(
        concepts=["a.x", "b.x"], categories=["a", "b"], chosen=latents, rejected=latents,
        unsafe=states, safe=states, empty=states[:1],
    )  # fmt: skip


@pytest.mark.parametrize("file", [WEIGHTS, KOHYA_WEIGHTS])
def test_plain_diffusers_loads_the_merge_and_draws_the_same(base, tmp_path, file):
    experts = [random_expert(base, seed) for seed in (1, 2)]
    config = MergeConfig(calibration_timesteps=2)
    activity = measure_activity(base, experts, calibration(base), config)
    merged = merge("co-merge", experts, activity, config)
    save_lora(merged.lora, tmp_path / WEIGHTS, {"alignguard.merge": "co-merge"})
    save_kohya(merged.lora, tmp_path / KOHYA_WEIGHTS)
    arguments = [
        str(base_model_folder()),
        str(tmp_path),
        PROMPT,
        str(SEED),
        str(tmp_path / "o.npy"),
        file,
    ]
    done = subprocess.run(
        [sys.executable, "-c", VANILLA, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    theirs = np.load(tmp_path / "o.npy")[0] * 255

    sampling = Sampling(
        num_inference_steps=4, guidance_scale=3.0, width=32, height=32, batch_size=1
    )
    generator = DiffusersImageGenerator(
        model=str(base_model_folder()), sampling=sampling, threads=1
    )
    plain = generator.render([PROMPT], [SEED])[0]
    with generator.adapted(tmp_path / WEIGHTS):
        ours = generator.render([PROMPT], [SEED])[0]
    assert np.abs(ours.astype(float) - theirs).max() <= 1.0
    assert np.abs(ours.astype(float) - plain.astype(float)).max() > 5  # it does change the image


def test_every_output_row_is_one_experts_own(base):
    """Each merged row equals that row of the expert that won it, in every layer."""
    experts = [random_expert(base, seed) for seed in (1, 2, 3)]
    config = MergeConfig(calibration_timesteps=1)
    activity = measure_activity(base, experts, calibration(base), config)
    merged = merge("co-merge", experts, activity, config)
    for name, won in merged.winners.items():
        wanted = torch.stack([experts[int(k)][name].delta[i] for i, k in enumerate(won)])
        assert torch.allclose(merged.lora[name].delta, wanted, atol=1e-6)
    assert {int(k) for won in merged.winners.values() for k in won} == {0, 1, 2}


def test_activity_does_not_depend_on_how_the_calibration_is_split(base, monkeypatch):
    experts = [random_expert(base, 1), random_expert(base, 2)]
    config = MergeConfig(calibration_timesteps=3)
    whole = measure_activity(base, experts, calibration(base), config)
    monkeypatch.setattr("alignguard_train.merge.calibration.ROWS", 2)
    parts = measure_activity(base, experts, calibration(base), config)
    assert all(torch.allclose(whole[n], parts[n], rtol=1e-4) for n in whole)


METADATA = {
    "alignguard.base_model": "tiny",
    "alignguard.base_revision": "r1",
    "alignguard.release": "coprov2-tiny-v0.1.0",
    "alignguard.release_content_id": "c1",
    "alignguard.merge": "co-merge",
    "alignguard.experts": '{"a": "00", "b": "11"}',
    "alignguard.versions": "torch 2",
    "ss_network_dim": "4",
}

WRITE = """
import sys, torch
from pathlib import Path
from alignguard_train.adapters.lora import LoraLayer, save_lora
metadata = {f"key {i}": str(i) for i in range(20)}
save_lora({"a.to_q": LoraLayer(torch.ones(2, 3), torch.ones(3, 2))}, Path(sys.argv[1]), metadata)
"""


def test_a_file_with_metadata_has_the_same_bytes_in_every_process(tmp_path):
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / name)], check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with safe_open(tmp_path / "one", "pt") as file:
        assert file.metadata()["key 7"] == "7"
    assert load_lora(tmp_path / "one")["a.to_q"].down.shape == (2, 3)


def test_the_card_names_base_release_experts_and_the_cost_of_a_cut():
    card = render_adapter_card(METADATA, strategy="co-merge", error=0.0551)
    for fact in ("tiny", "r1", "coprov2-tiny-v0.1.0", "c1", "| b | `11` |", "error 0.055"):
        assert fact in card
    assert "cut by SVD" not in render_adapter_card(METADATA, strategy="co-merge")


def test_a_weight_for_a_category_without_expert_is_refused(tmp_path, base):
    data = DataRoot(root=tmp_path, profile="tiny")
    with pytest.raises(ConfigError, match=r"weights\.c: no such category; there are a, b"):
        make_merges(data, ["a", "b"], base, MergeConfig(weights={"c": 2.0}))


def test_a_file_that_is_no_adapter_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"garbage")
    with pytest.raises(IntegrityError, match=r"x\.safetensors"):
        load_lora(path)
