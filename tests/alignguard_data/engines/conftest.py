"""The tiny Stable Diffusion and a LoRA for it, as files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from benchmarks.tiny.diffusion import tiny_pipe
from pipelines.profile_paths import resolve_model
from tests.alignguard_data.engines.smol_models import SMOLLM2, missing_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """The v-prediction pipe as a folder that ``from_pretrained`` loads."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipe().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def tiny_lora(tmp_path_factory) -> Path:
    """A LoRA file on the tiny UNet's attention projections, in diffusers' format."""
    pipe = tiny_pipe()
    torch.manual_seed(1)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    pipe.unet.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False)
    )
    folder = tmp_path_factory.mktemp("adapters")
    state = get_peft_model_state_dict(pipe.unet)
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=state)
    return folder / "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory) -> Iterator[str]:
    """SmolLM2's GGUF file; what is made of it is kept for the session, outside the user's cache."""
    if missing := missing_model(SMOLLM2):
        pytest.skip(missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield resolve_model(SMOLLM2)
