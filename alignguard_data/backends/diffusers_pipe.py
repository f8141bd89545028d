"""A loaded Stable Diffusion checkpoint and its batched denoising loop.

The loop is that of ``StableDiffusionPipeline.__call__`` (same latents, same image up to rounding),
made safe to run in several threads on the same weights, with noise of its own for every row.
"""

import copy
import inspect
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers.utils import logging as transformers_logging

from alignguard_data.backends.lora import fold_in
from alignguard_data.errors import EngineError
from alignguard_data.images import Sampling
from alignguard_data.protocols import Pixels, Progress

log = logging.getLogger(__name__)

DECODED_PIXELS = 2**22
"""Pixels that the VAE decodes at once (16 images of 512x512): it needs far more memory an image
than the UNet does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """Rows of one forward pass: always ``batch_size`` of them, the last ``padding`` repeated."""

    prompts: list[str]
    seeds: list[int]
    padding: int


class DiffusersPipe:
    """Weights on their device, ready to render; see ``DiffusersImageGenerator``."""

    def __init__(self, pipe: StableDiffusionPipeline, sampling: Sampling, *, workers: int) -> None:
        self._pipe = pipe
        self._sampling = sampling
        self._workers = workers
        self._batch_size = sampling.batch_size
        self._device: torch.device = pipe.unet.device
        self._dtype: torch.dtype = pipe.unet.dtype
        # A fast tokenizer keeps its padding in itself, so two threads must not use it at once.
        self._encoding = threading.Lock()
        self._empty: Tensor | None = None

    @classmethod
    def load(
        cls,
        model: str,
        *,
        revision: str | None,
        device: str,
        dtype: str,
        threads: int,
        sampling: Sampling,
    ) -> "DiffusersPipe":
        """Load from safetensors alone.

        Raises:
            EngineError: no such checkpoint, or one of another kind.
        """
        pipe = load_pipeline(model, revision=revision, device=device, dtype=dtype)
        where = pipe.unet.device
        for network in (pipe.unet, pipe.vae):
            network.to(memory_format=torch.channels_last)
        return cls(pipe, sampling, workers=threads if where.type == "cpu" else 1)

    @property
    def images_per_call(self) -> int:
        return self._batch_size * self._workers

    def fold_in(self, adapter: Path) -> None:
        """Make a LoRA file part of the weights for good."""
        fold_in(self._pipe, adapter)

    @contextmanager
    def adapted(self, adapter: Path) -> Iterator[None]:
        """Make a LoRA file part of the weights until the block ends."""
        restore = fold_in(self._pipe, adapter)
        try:
            yield
        finally:
            restore()

    def render(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress | None
    ) -> Pixels:
        """One uint8 image (height, width, 3) a prompt; batches run side by side on a CPU.

        Raises:
            EngineError: a single image does not fit into memory.
        """
        while True:
            try:
                return self._render(prompts, seeds, progress)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                if self._batch_size == 1:
                    raise EngineError(f"one image does not fit into memory: {error}") from error
                self._batch_size = max(1, self._batch_size // 2)
                log.warning("out of memory; going on with batches of %d", self._batch_size)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()

    def _render(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress | None
    ) -> Pixels:
        size = self._sampling
        out = np.empty((len(prompts), size.height, size.width, 3), np.uint8)
        starts = range(0, len(prompts), self._batch_size)
        threads = torch.get_num_threads()
        on_cpu = self._device.type == "cpu"
        try:
            with ThreadPoolExecutor(
                self._workers,
                initializer=torch.set_num_threads,
                initargs=(1 if on_cpu else threads,),
            ) as pool:
                batches = (self._batch(prompts, seeds, start) for start in starts)
                for start, pixels in zip(
                    starts, pool.map(self._render_batch, batches), strict=True
                ):
                    out[start : start + len(pixels)] = pixels
                    if progress:
                        progress(len(pixels))
        finally:
            torch.set_num_threads(threads)
        return out

    def _batch(self, prompts: Sequence[str], seeds: Sequence[int], start: int) -> _Batch:
        stop = start + self._batch_size
        texts, numbers = list(prompts[start:stop]), list(seeds[start:stop])
        # A short batch would take other code paths in the matrix kernels and so change last bits.
        padding = self._batch_size - len(texts)
        return _Batch(
            prompts=texts + texts[-1:] * padding,
            seeds=numbers + numbers[-1:] * padding,
            padding=padding,
        )

    @torch.inference_mode()
    def _render_batch(self, batch: _Batch) -> Pixels:
        generators = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
        latents = self._denoise(self._noise(generators), self._embed(batch.prompts), generators)
        return self._decode(latents)[: len(batch.prompts) - batch.padding]

    def _noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Standard normal latents (rows, channels, h, w), drawn on the CPU row by row."""
        pipe, size = self._pipe, self._sampling
        factor = pipe.vae_scale_factor
        shape = (1, pipe.unet.config.in_channels, size.height // factor, size.width // factor)
        rows = [torch.randn(shape, generator=g, dtype=torch.float32) for g in generators]
        return torch.cat(rows).to(self._device, self._dtype)

    def _embed(self, prompts: Sequence[str]) -> Tensor:
        """Text states (rows, tokens, width), preceded by the negative prompt's under guidance."""
        with self._encoding:
            states = self._encode(prompts)
            if not self._guided:
                return states
            if self._empty is None:
                self._empty = self._encode([self._sampling.negative_prompt])
        return torch.cat([self._empty.expand_as(states), states])

    def _encode(self, prompts: Sequence[str]) -> Tensor:
        return self._pipe.encode_prompt(list(prompts), self._device, 1, False)[0]

    @property
    def _guided(self) -> bool:
        return self._sampling.guidance_scale > 1

    def _denoise(
        self, noise: Tensor, states: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Noise (rows, channels, h, w) to latents under classifier-free guidance."""
        # A scheduler holds its position, so each batch has one of its own.
        scheduler: Any = copy.deepcopy(self._pipe.scheduler)
        scheduler.set_timesteps(self._sampling.num_inference_steps, device=self._device)
        extra: dict[str, Any] = {}
        if "generator" in inspect.signature(scheduler.step).parameters:
            extra["generator"] = list(generators)
        latents = noise * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            rows = torch.cat([latents, latents]) if self._guided else latents
            rows = scheduler.scale_model_input(rows, t).contiguous(
                memory_format=torch.channels_last
            )
            predicted = self._pipe.unet(rows, t, encoder_hidden_states=states, return_dict=False)[0]
            if self._guided:
                without, given = predicted.chunk(2)
                predicted = without + self._sampling.guidance_scale * (given - without)
            latents = scheduler.step(predicted, t, latents, **extra, return_dict=False)[0]
        return latents

    def _decode(self, latents: Tensor) -> Pixels:
        """Latents to uint8 images (rows, height, width, 3); rows that are not finite are black."""
        vae = self._pipe.vae
        at_once = max(1, DECODED_PIXELS // (self._sampling.width * self._sampling.height))
        parts = [
            vae.decode(part.to(memory_format=torch.channels_last), return_dict=False)[0]
            for part in (latents / vae.config.scaling_factor).split(at_once)
        ]
        shown = (torch.cat(parts) / 2 + 0.5).clamp(0, 1).float()
        finite = shown.isfinite().flatten(1).all(dim=1)
        if not finite.all():
            log.warning("%d images were not finite", int((~finite).sum()))
            shown = torch.where(finite[:, None, None, None], shown, torch.zeros_like(shown))
        return (shown * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def load_pipeline(
    model: str, *, revision: str | None, device: str, dtype: str
) -> StableDiffusionPipeline:
    """Load a checkpoint from safetensors alone, every weight frozen; also used in training.

    Raises:
        EngineError: no such checkpoint, or one of another kind.
    """
    where = torch.device(_best_device() if device == "auto" else device)
    precision = _best_dtype(where) if dtype == "auto" else getattr(torch, dtype)
    try:
        with _no_bars():
            pipe = StableDiffusionPipeline.from_pretrained(
                model,
                revision=revision,
                dtype=precision,
                use_safetensors=True,
                safety_checker=None,
                requires_safety_checker=False,
            )
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(f"{model} cannot be loaded as Stable Diffusion: {error}") from error
    pipe.to(where)
    for network in (pipe.unet, pipe.vae, pipe.text_encoder):
        network.requires_grad_(False).eval()
    return pipe


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the libraries' loading bars out of the run's own progress."""
    libraries = (diffusers_logging, transformers_logging)
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.float16


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
