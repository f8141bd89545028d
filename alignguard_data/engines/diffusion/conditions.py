"""Encodes prompts with a pipe's own text encoders, whatever its family."""

from collections.abc import Sequence

import torch
from diffusers import DiffusionPipeline

from alignguard_data.engines.families.conditions import Conditions, concatenated
from alignguard_data.engines.families.registry import family_of

__all__ = ["Conditions", "Pipe", "concatenated", "encode_texts", "encode_unconditional"]

Pipe = DiffusionPipeline
"""A diffusers pipe of a known family, which can render and be trained."""


@torch.no_grad()
def encode_texts(pipe: Pipe, prompts: Sequence[str]) -> Conditions:
    """Encode prompts with the pipe's own encoders."""
    return family_of(pipe).encode(pipe, prompts)


@torch.no_grad()
def encode_unconditional(pipe: Pipe, negative_prompt: str = "") -> Conditions:
    """The unconditional row of classifier-free guidance; zeros for SDXL if the prompt is empty."""
    return family_of(pipe).encode_unconditional(pipe, negative_prompt)
