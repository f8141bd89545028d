"""Stable Diffusion 1.5 at its real size with random weights, built from its configuration.

Measurements run in a separate process each, for their peak memory:

    python -m benchmarks.real_size <folder>                writes the checkpoint
    python -m benchmarks.<module> <folder> <what> ...      the last line it prints is JSON
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_data.standin.factory import base_model_folder
from alignguard_train.encodings.encoder import EncodedPreferences
from benchmarks.peak import peak_bytes

PARAMETERS = 859_520_964
"""Of Stable Diffusion 1.5's UNet."""
TOKENS, WIDTH = 77, 768
SIDE = 16
"""Of a latent; 1.5 itself draws at 64."""
THREADS = 2


@contextmanager
def checkpoint() -> Iterator[Path]:
    """A temporary folder with the pipe as safetensors, 4.3 GB.

    Weights are memory-mapped, so untouched ones do not count as memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "benchmarks.real_size", folder], check=True)
        yield Path(folder)


def unet() -> UNet2DConditionModel:
    """Its UNet; other settings are diffusers' defaults, which are 1.5's."""
    torch.manual_seed(0)
    made = UNet2DConditionModel(sample_size=64, cross_attention_dim=WIDTH)
    found = sum(p.numel() for p in made.parameters())
    assert found == PARAMETERS, found
    return made.eval().requires_grad_(False)


def scheduler() -> DDIMScheduler:
    """Its training noise scheduler."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        clip_sample=False,
    )


def pipe() -> StableDiffusionPipeline:
    """The full pipe; the tokenizer is the stand-in's with 77 tokens."""
    tokenizer = CLIPTokenizer.from_pretrained(
        base_model_folder() / "tokenizer", model_max_length=TOKENS
    )
    parts: dict[str, Any] = {  # diffusers' annotations lack None and its own schedulers
        "scheduler": scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    }
    return StableDiffusionPipeline(
        unet=unet(), vae=_vae(), text_encoder=_text_encoder(), tokenizer=tokenizer,
        requires_safety_checker=False, **parts,
    )  # fmt: skip


def _vae() -> AutoencoderKL:
    config: dict[str, Any] = {  # annotated as tuples of one
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
    }
    made = AutoencoderKL(**config, layers_per_block=2, sample_size=512)
    return made.eval().requires_grad_(False)


def _text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=12,
        num_attention_heads=12, max_position_embeddings=TOKENS, projection_dim=WIDTH,
    )  # fmt: skip
    return CLIPTextModel(config).eval().requires_grad_(False)


def random_encodings(categories: list[str], side: int = SIDE) -> EncodedPreferences:
    """Random encoded pairs in the shape of 1.5's, one category per pair."""
    draw = torch.Generator().manual_seed(0)

    def states(rows: int) -> Conditions:
        return Conditions(states=torch.randn(rows, TOKENS, WIDTH, generator=draw))

    def latents() -> torch.Tensor:
        return torch.randn(len(categories), 4, side, side, generator=draw)

    return EncodedPreferences(
        concepts=[f"{key}.x" for key in categories], categories=categories,
        chosen=latents(), rejected=latents(),
        unsafe=states(len(categories)), safe=states(len(categories)), empty=states(1),
        chosen_flipped=latents(), rejected_flipped=latents(),
    )  # fmt: skip


def in_own_process(module: str, *arguments: object) -> dict[str, float]:
    """The figures printed by ``python -m module arguments``."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(figures: Mapping[str, Any]) -> None:
    """Print the figures of this process, with its peak memory in GB."""
    print(json.dumps({**figures, "peak": peak_bytes() / 1e9}))


if __name__ == "__main__":
    pipe().save_pretrained(sys.argv[1], safe_serialization=True)
