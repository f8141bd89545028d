"""Encodes prompts with a pipe's own text encoders, for every family."""

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
    """Encode prompts with the pipe's own encoders, without gradient.

    Args:
        pipe: a loaded pipe of a known family.
        prompts: the end of a prompt that is too long for the tokenizer is cut off.

    Returns:
        One row a prompt, on the pipe's device.

    Raises:
        EngineError: the pipe is of no known family.
    """
    return family_of(pipe).encode(pipe, prompts)


@torch.no_grad()
def encode_unconditional(pipe: Pipe, negative_prompt: str = "") -> Conditions:
    """The row that classifier-free guidance leads away from, without gradient.

    Args:
        pipe: a loaded pipe of a known family.
        negative_prompt: what to lead away from; empty for the plain unconditional row.

    Returns:
        A single row; zeros for SDXL if the prompt is empty and the checkpoint says so.

    Raises:
        EngineError: the pipe is of no known family.
    """
    return family_of(pipe).encode_unconditional(pipe, negative_prompt)
