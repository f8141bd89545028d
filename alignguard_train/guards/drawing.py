"""Draws prompts with a guarded pipe as the evaluation draws them: same noise, solver and size."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_data.engines.diffusion.solvers import with_solver
from alignguard_data.engines.families.registry import family_of
from alignguard_train.guards.guarded_pipe import guarded
from alignguard_train.guards.protocol import Decision, Guard


class ChangeableGenerator(Protocol):
    """A generator that can hand out the pipe that it draws with."""

    sampling: Sampling

    def changed(self, change: Callable[[Any], Any]) -> AbstractContextManager[None]:
        """Render with the pipe as ``change`` leaves it, until the block ends."""
        ...


def draw_behind(
    generator: ChangeableGenerator, guard: Guard, prompts: Sequence[str], seeds: Sequence[int]
) -> tuple[Pixels, list[Decision]]:
    """Draw prompts by a generator's pipe as it is now, behind a guard, in the generator's batches.

    Args:
        generator: with its adapter or peer on.
        guard: decides on every prompt first.
        prompts: one per image; at least one.
        seeds: of the initial noise, one per prompt.

    Returns:
        As of :func:`draw_guarded`.

    Raises:
        EngineError: the guard was made for another pipe, or the solver does not fit.
    """
    held: list[Any] = []
    images: list[Pixels] = []
    decisions: list[Decision] = []
    sampling, size = generator.sampling, max(1, generator.sampling.batch_size)
    with generator.changed(lambda pipe: held.append(pipe) or pipe):
        for i in range(0, len(prompts), size):
            drawn, decided = draw_guarded(
                held[0], guard, prompts[i : i + size], seeds[i : i + size], sampling
            )
            images.append(drawn)
            decisions += decided
    return np.concatenate(images), decisions


def draw_guarded(
    pipe: Pipe, guard: Guard, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling
) -> tuple[Pixels, list[Decision]]:
    """Draw prompts by the guarded pipe's own call.

    Args:
        pipe: a loaded pipe of a known family; it is unchanged.
        guard: decides on every prompt first.
        prompts: one per image.
        seeds: of the initial noise, one per prompt.
        sampling: steps, guidance, solver and size.

    Returns:
        Images, uint8 (prompts, height, width, 3), black where the guard blocks; and its decisions.

    Raises:
        EngineError: the guard was made for another pipe, or the solver does not fit.
    """
    drawing: Any = copy.copy(pipe)
    drawing.scheduler = with_solver(pipe.scheduler, sampling.solver)
    drawing.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = guarded(drawing, guard)(
        list(prompts),
        latents=_noise(pipe, generators, sampling),
        generator=generators,
        num_inference_steps=sampling.num_inference_steps,
        guidance_scale=sampling.guidance_scale,
        negative_prompt=[sampling.negative_prompt] * len(prompts),
        height=sampling.height,
        width=sampling.width,
        output_type="np",
    )
    return _pixels(drawn.images), list(drawn.decisions)


def _noise(pipe: Any, generators: Sequence[torch.Generator], sampling: Sampling) -> torch.Tensor:
    """Standard normal latents (rows, channels, h, w), drawn on the CPU per row in float32."""
    denoiser = getattr(pipe, family_of(pipe).denoiser)
    factor = pipe.vae_scale_factor
    channels = family_of(pipe).latent_channels(denoiser)
    shape = (1, channels, sampling.height // factor, sampling.width // factor)
    rows = [torch.randn(shape, generator=one) for one in generators]
    return torch.cat(rows).to(denoiser.device, denoiser.dtype)


def _pixels(images: Any) -> Pixels:
    """Images of a pipe's output as uint8 (rows, height, width, 3)."""
    rows = [np.asarray(image) for image in images]
    return np.stack(
        [row if row.dtype == np.uint8 else (row * 255).round().astype(np.uint8) for row in rows]
    )
