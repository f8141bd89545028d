"""The tiny Stable Diffusion and a LoRA for it, as files."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from tests.alignguard_data.backends.tiny import tiny_pipe


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
