"""The base model that most trainings are tested on; a file that needs another defines its own."""

import pytest

from alignguard_train.base import BaseModel
from benchmarks.tiny.diffusion import tiny_pipe


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny Stable Diffusion 1.5 of random weights, once a file."""
    folder = tmp_path_factory.mktemp("models") / "sd15"
    tiny_pipe("epsilon").save_pretrained(folder, safe_serialization=True)
    return BaseModel(model=str(folder), device="cpu")
