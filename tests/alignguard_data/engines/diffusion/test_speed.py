"""Faster ways of rendering draw the same, or as near as their precision allows."""

import shutil

import numpy as np
import pytest
import torch

from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.speed import Speed
from tests.alignguard_data.engines.diffusion.seven_prompts import PROMPTS, SAMPLING, SEEDS


@pytest.mark.parametrize(
    "speed", [Speed(attention="math"), Speed(channels_last=False, vae_slicing=True)]
)
def test_ways_of_going_faster_draw_the_same(tiny_folder, generator, speed):
    other = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", speed=speed
    )
    difference = generator.render(PROMPTS, SEEDS).astype(int) - other.render(PROMPTS, SEEDS)
    assert np.abs(difference).max() <= 1


def test_eight_bit_weights_draw_nearly_the_same_take_half_and_carry_adapters(
    tiny_folder, tiny_lora, generator
):
    small = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", speed=Speed(quantization="float8")
    )
    assert small.revision == generator.revision + "+float8"
    before = small.render(PROMPTS, SEEDS)
    # e4m3 keeps three bits behind the point: near the image, not the image.
    difference = np.abs(generator.render(PROMPTS, SEEDS).astype(int) - before)
    assert 0 < difference.mean() < 8
    weights = dict(small._loaded()._pipe.unet.named_parameters())
    kinds = {name: str(weight.dtype) for name, weight in weights.items()}
    held = {name for name, kind in kinds.items() if kind == "torch.float8_e4m3fn"}
    assert held
    assert not any("norm" in name or ".to_q" in name for name in held)
    assert "mid_block.resnets.0.conv1.weight" in held

    with small.adapted(tiny_lora), generator.adapted(tiny_lora):
        adapted = np.abs(generator.render(PROMPTS, SEEDS).astype(int) - before).mean()
        assert np.abs(small.render(PROMPTS, SEEDS).astype(int) - before).mean() > adapted / 2
    assert np.array_equal(small.render(PROMPTS, SEEDS), before)


def test_eight_bit_weights_and_compilation_exclude_each_other():
    with pytest.raises(ValueError, match="quantization float8 cannot be combined with compile"):
        Speed(compile=True, quantization="float8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++)")
def test_a_compiled_unet_draws_the_same_and_is_compiled_once(tiny_folder, generator):
    compiled = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", speed=Speed(compile=True)
    )
    # The last batch is short: were it not filled up, it would be compiled again.
    with torch._dynamo.config.patch(error_on_recompile=True):
        first = compiled.render(PROMPTS, SEEDS)
        again = compiled.render(PROMPTS[:1], SEEDS[:1])
    assert np.abs(first.astype(int) - generator.render(PROMPTS, SEEDS)).max() <= 1
    assert np.array_equal(first[:1], again)
