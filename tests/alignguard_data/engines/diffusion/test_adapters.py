"""An adapter renders as diffusers renders it, and leaves no trace."""

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_data.engines.diffusion.seven_prompts import PROMPTS, SAMPLING, SEEDS


def test_an_adapter_renders_as_load_lora_weights_does_and_leaves_no_trace(
    tiny_folder, tiny_lora, generator
):
    base = generator.render(PROMPTS, SEEDS)
    with generator.adapted(tiny_lora):
        adapted = generator.render(PROMPTS, SEEDS)
    after = generator.render(PROMPTS, SEEDS)

    pipe = tiny_pipe()
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(tiny_lora.parent, weight_name=tiny_lora.name)
    noise = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    theirs = pipe(
        PROMPTS,
        latents=torch.cat(noise),
        num_inference_steps=4,
        guidance_scale=3.0,
        width=16,
        height=16,
        output_type="np",
    ).images

    assert np.abs(adapted.astype(int) - base).max() > 5, "the adapter must do something"
    assert np.abs(adapted - theirs * 255).max() <= 1.01
    assert np.array_equal(base, after)


def test_an_adapter_given_from_the_start_enters_the_revision(tiny_folder, tiny_lora, generator):
    always = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", adapter=tiny_lora
    )
    with generator.adapted(tiny_lora):
        assert np.array_equal(always.render(PROMPTS, SEEDS), generator.render(PROMPTS, SEEDS))
    assert always.revision.startswith(generator.revision + "+")


def test_a_file_that_is_no_adapter_is_refused_by_name(tmp_path, generator):
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"not weights")
    with pytest.raises(EngineError, match=r"wrong\.safetensors"), generator.adapted(wrong):
        pass
