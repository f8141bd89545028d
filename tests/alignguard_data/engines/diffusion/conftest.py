"""A generator over the tiny checkpoint."""

import pytest

from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from tests.alignguard_data.engines.diffusion.seven_prompts import SAMPLING


@pytest.fixture
def generator(tiny_folder):
    return DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", threads=2
    )
