"""A tiny pipe with random weights, concepts that its tokenizer knows, and the pipe's images."""

import numpy as np
import torch

from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_train.peers.concept import Concept

CONCEPTS = [
    Concept(category="one", name="a b", examples=(("c d a b", "c d"),)),
    Concept(category="one", name="c", examples=(("e c", "e"),)),
    Concept(category="two", name="d e", examples=(("f d e", "f"),)),
]
PROMPTS = ["x y a b", "z"]


def drawn(pipe: Pipe, *, steps: int = 4, guidance: float = 5.0, **named) -> np.ndarray:
    """Images of :data:`PROMPTS` by diffusers' own loop, from fixed noise."""
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        PROMPTS, num_inference_steps=steps, guidance_scale=guidance, latents=noise,
        output_type="np", height=16, width=16, **named,
    ).images  # fmt: skip


def weights(pipe: Pipe) -> dict[str, torch.Tensor]:
    """A copy of the UNet's weights."""
    return {name: x.clone() for name, x in pipe.unet.state_dict().items()}
