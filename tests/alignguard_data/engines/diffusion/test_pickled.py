"""Pickled weights are refused, and converted only if they hold nothing but tensors."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.pickled import convert_weights
from tests.alignguard_data.engines.diffusion.seven_prompts import PROMPTS, SAMPLING, SEEDS


def test_pickled_weights_alone_are_refused(tmp_path, tiny_folder):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    generator = DiffusersImageGenerator(model=str(folder), sampling=SAMPLING)
    with pytest.raises(EngineError, match="alignguard convert-weights") as caught:
        generator.render(["a"], [0])
    assert "unet/diffusion_pytorch_model.bin" in str(caught.value)

    assert convert_weights(folder) == [weights]
    assert np.array_equal(
        generator.render(PROMPTS, SEEDS),
        DiffusersImageGenerator(model=str(tiny_folder), sampling=SAMPLING).render(PROMPTS, SEEDS),
    )


def test_a_pickle_that_would_run_code_is_not_converted(tmp_path):
    ran = tmp_path / "ran"

    class Runs:
        def __reduce__(self):
            return Path.touch, (ran,)

    torch.save({"weight": torch.ones(2)}, tmp_path / "good.bin")
    torch.save({"weight": Runs()}, tmp_path / "bad.bin")
    with pytest.raises(
        EngineError, match=r"(?s)nothing was converted.*bad\.bin: it contains something"
    ) as caught:
        convert_weights(tmp_path)
    assert "good.bin" not in str(caught.value)
    assert not ran.exists()
    assert not list(tmp_path.glob("*.safetensors"))
