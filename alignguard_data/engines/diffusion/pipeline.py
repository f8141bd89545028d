"""A loaded checkpoint of any known family (also LCM, Turbo) and its batched denoising loop.

The loop of the pipe's ``__call__`` (same latents, same image up to rounding), but thread-safe on
shared weights and with separate noise per row.
"""

import inspect
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from alignguard_data.contracts.errors import EngineError, first_line
from alignguard_data.contracts.protocols import Edit, Pixels, Progress
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.conditions import (
    Conditions,
    Pipe,
    concatenated,
    encode_texts,
    encode_unconditional,
)
from alignguard_data.engines.diffusion.editing import edited, editing_pipe
from alignguard_data.engines.diffusion.loading import load_pipeline
from alignguard_data.engines.diffusion.lora import fold_in
from alignguard_data.engines.diffusion.solvers import with_solver
from alignguard_data.engines.families.registry import check_sampling, family_of
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.out_of_memory import is_out_of_memory
from alignguard_data.engines.speed import Attention, Speed, on_device

log = logging.getLogger(__name__)

DECODED_PIXELS = 2**22
"""Pixels per VAE decode (16 images of 512x512): it needs far more memory per image than the
denoiser."""

SENSITIVE = "norm"
"""Layers that are never quantized."""

_KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """Rows of one forward pass: always ``batch_size``, the last ``padding`` of them repeated."""

    prompts: list[str] | Conditions
    seeds: list[int]
    padding: int


class DiffusersPipe:
    """A loaded pipe on its device, ready to render; see ``DiffusersImageGenerator``."""

    def __init__(
        self, pipe: Pipe, sampling: Sampling, *, workers: int, speed: Speed | None = None
    ) -> None:
        self._pipe = pipe
        self._sampling = sampling
        self._workers = workers
        self._batch_size = sampling.batch_size
        self._family = family_of(pipe)
        check_sampling(pipe, sampling)
        self._device: torch.device = self._denoiser.device
        self._dtype: torch.dtype = self._denoiser.dtype
        how = on_device(speed or Speed(), self._device.type)
        self._attention: Attention = how.attention
        self._layout = torch.channels_last if how.channels_last else torch.contiguous_format
        # A fast tokenizer stores its padding, so threads must take turns.
        self._encoding = threading.Lock()
        self._empty: Conditions | None = None

    @classmethod
    def load(
        cls,
        source: ModelSource,
        *,
        device: str,
        dtype: str,
        threads: int,
        sampling: Sampling,
        vae: ModelSource | None = None,
        speed: Speed | None = None,
    ) -> "DiffusersPipe":
        """Load from safetensors only.

        Args:
            source: folder or hub id of a pipe of a known family.
            device: ``auto`` or a torch device.
            dtype: ``auto`` or a torch dtype's name.
            threads: workers on a CPU; other devices, and quantized weights, use one.
            sampling: steps, guidance, size and batch size.
            vae: another VAE.
            speed: None is ``auto`` throughout.

        Returns:
            The loaded pipe, compiled at its first batch if ``speed`` says so.

        Raises:
            EngineError: the checkpoint is missing or of another kind.
        """
        pipe = load_pipeline(source, device=device, dtype=dtype, vae=vae)
        denoiser = getattr(pipe, family_of(pipe).denoiser)
        how = on_device(speed or Speed(), denoiser.device.type)
        for network in (denoiser, pipe.vae) if how.channels_last else ():
            network.to(memory_format=torch.channels_last)
        if how.vae_tiling:
            pipe.vae.enable_tiling()
        if how.vae_slicing:
            pipe.vae.enable_slicing()
        if how.compile:
            denoiser.compile(dynamic=False)
        # Quantized weights are cast in place around each forward, so one batch at a time.
        side_by_side = denoiser.device.type == "cpu" and how.quantization == "none"
        loaded = cls(pipe, sampling, workers=threads if side_by_side else 1, speed=how)
        if how.quantization == "float8":
            denoiser.enable_layerwise_casting(
                storage_dtype=torch.float8_e4m3fn,
                compute_dtype=denoiser.dtype,
                skip_modules_pattern=not_quantized(family_of(pipe).lora_targets),
            )
        return loaded

    @property
    def _denoiser(self) -> Any:
        return getattr(self._pipe, self._family.denoiser)

    @property
    def images_per_call(self) -> int:
        """How many images one call renders at most."""
        return self._batch_size * self._workers

    def fold_in(self, adapter: Path) -> None:
        """Fold a LoRA file into the weights permanently."""
        fold_in(self._pipe, adapter)

    @contextmanager
    def adapted(self, adapter: Path) -> Iterator[None]:
        """Fold a LoRA file into the weights inside the block."""
        restore = fold_in(self._pipe, adapter)
        try:
            yield
        finally:
            restore()

    @contextmanager
    def changed(self, change: Callable[[Pipe], Pipe]) -> Iterator[None]:
        """Render with the pipe that ``change`` returns for the loaded one, inside the block."""
        before = self._pipe, self._empty
        self._pipe, self._empty = change(self._pipe), None
        try:
            yield
        finally:
            self._pipe, self._empty = before

    @contextmanager
    def sampled(self, sampling: Sampling) -> Iterator[None]:
        """Render with other steps, guidance or size inside the block.

        Batch size and negative prompt do not change.
        """
        check_sampling(self._pipe, sampling)
        before, self._sampling = self._sampling, sampling
        try:
            yield
        finally:
            self._sampling = before

    def render(
        self, prompts: Sequence[str] | Conditions, seeds: Sequence[int], progress: Progress | None
    ) -> Pixels:
        """Render each prompt from the noise of its seed; batches run in parallel on a CPU.

        Args:
            prompts: one per image.
            seeds: seed of the initial noise, one per prompt.
            progress: called with the number of images just finished.

        Returns:
            The images, uint8 (len(prompts), height, width, 3).

        Raises:
            EngineError: one image does not fit into memory, the device failed, or it lacks the
                configured attention kernel.
            RuntimeError: the model failed for another reason.
        """
        while True:
            try:
                return self._render(prompts, seeds, progress, self._attention)
            except RuntimeError as error:
                if isinstance(error, torch.AcceleratorError):
                    # The process's device context is lost; only a new process can continue.
                    raise EngineError(
                        f"{self._device} failed ({first_line(error)}); the images so far "
                        "are kept: check the device (nvidia-smi) and run again"
                    ) from error
                if not is_out_of_memory(error):
                    if self._attention in _KERNELS and self._runs_natively(prompts, seeds):
                        raise EngineError(
                            f"base_model.speed.attention: {self._attention} does not run on "
                            f"{self._device} with this model; `native` does"
                        ) from error
                    raise
                if self._batch_size == 1:
                    raise EngineError(f"one image does not fit into memory: {error}") from error
                self._batch_size = max(1, self._batch_size // 2)
                log.warning("out of memory; going on with batches of %d", self._batch_size)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()

    def edit(self, images: Pixels, edits: Sequence[Edit], strength: float) -> Pixels:
        """Edit each image (rows, height, width, 3), batch after batch; see the generator's."""
        with self._encoding, _kernel(self._attention):
            editor = editing_pipe(self._pipe, self._family.name, self._sampling, strength)
            return edited(editor, edits, images, self._sampling, strength, self._decode)

    def _runs_natively(self, prompts: Sequence[str] | Conditions, seeds: Sequence[int]) -> bool:
        """Whether a batch that failed with the configured attention kernel succeeds without it."""
        first = slice(self._batch_size)
        try:
            self._render(prompts[first], seeds[first], None, "native")
        except RuntimeError:
            return False
        return True

    def _render(
        self,
        prompts: Sequence[str] | Conditions,
        seeds: Sequence[int],
        progress: Progress | None,
        attention: Attention,
    ) -> Pixels:
        size = self._sampling
        out = np.empty((len(prompts), size.height, size.width, 3), np.uint8)
        starts = range(0, len(prompts), self._batch_size)
        threads = torch.get_num_threads()
        on_cpu = self._device.type == "cpu"
        try:
            with (
                _kernel(attention),
                ThreadPoolExecutor(
                    self._workers,
                    initializer=torch.set_num_threads,
                    initargs=(1 if on_cpu else threads,),
                ) as pool,
            ):
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

    def _batch(
        self, prompts: Sequence[str] | Conditions, seeds: Sequence[int], start: int
    ) -> _Batch:
        rows = slice(start, start + self._batch_size)
        numbers = list(seeds[rows])
        # A short batch takes other code paths in the matrix kernels, which changes the last bits.
        padding = self._batch_size - len(numbers)
        if isinstance(prompts, Conditions):
            part = prompts[rows]
            texts = concatenated([part, part[-1:].repeat(padding)]) if padding else part
        else:
            texts = list(prompts[rows])
            texts += texts[-1:] * padding
        return _Batch(
            prompts=texts,
            seeds=numbers + numbers[-1:] * padding,
            padding=padding,
        )

    @torch.inference_mode()
    def _render_batch(self, batch: _Batch) -> Pixels:
        generators = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
        rows = len(generators)
        taken = self._family.guidance(self._pipe, self._sampling.guidance_scale, rows)
        guided = taken is None and self._sampling.guidance_scale > 1
        text = {**self._embed(batch.prompts, guided=guided), **(taken or {})}
        latents = self._denoise(self._noise(generators), text, generators, guided=guided)
        return self._decode(latents)[: len(batch.seeds) - batch.padding]

    def _noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Standard normal latents (rows, channels, h, w), drawn on the CPU per row."""
        size, factor = self._sampling, self._pipe.vae_scale_factor
        channels = self._family.latent_channels(self._denoiser)
        shape = (1, channels, size.height // factor, size.width // factor)
        rows = [torch.randn(shape, generator=g, dtype=torch.float32) for g in generators]
        return torch.cat(rows).to(self._device, self._dtype)

    def _embed(self, prompts: Sequence[str] | Conditions, *, guided: bool) -> dict[str, Any]:
        """The denoiser's text arguments; under guidance the negative prompt's rows come first."""
        size = self._sampling
        with self._encoding:
            if isinstance(prompts, Conditions):
                given = prompts.to(self._device, self._dtype)
            else:
                given = encode_texts(self._pipe, prompts)
            if guided and self._empty is None:
                self._empty = encode_unconditional(self._pipe, size.negative_prompt)
        if guided:
            assert self._empty is not None
            given = concatenated([self._empty.repeat(len(given)), given])
        pixels = {"height": size.height, "width": size.width}
        return self._family.arguments(self._denoiser, given, **pixels)

    def _denoise(
        self,
        noise: Tensor,
        text: dict[str, Any],
        generators: Sequence[torch.Generator],
        *,
        guided: bool,
    ) -> Tensor:
        """Noise (rows, channels, h, w) to latents under classifier-free guidance."""
        # A scheduler has state, so each batch needs its own.
        scheduler = with_solver(self._pipe.scheduler, self._sampling.solver)
        size, denoiser = self._sampling, self._denoiser
        self._family.set_timesteps(
            scheduler,
            size.num_inference_steps,
            latent=(noise.shape[2], noise.shape[3]),
            on=self._device,
        )
        extra: dict[str, Any] = {}
        if "generator" in inspect.signature(scheduler.step).parameters:
            extra["generator"] = list(generators)
        # A flow's scheduler starts from the noise as it is, and takes latents as they are.
        latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
        scale = getattr(scheduler, "scale_model_input", lambda rows, t: rows)
        for t in scheduler.timesteps:
            rows = torch.cat([latents, latents]) if guided else latents
            rows = scale(rows, t).contiguous(memory_format=self._layout)
            predicted = self._family.predict(denoiser, rows, t, text)
            if guided:
                without, given = predicted.chunk(2)
                predicted = without + size.guidance_scale * (given - without)
            latents = scheduler.step(predicted, t, latents, **extra, return_dict=False)[0]
        return latents

    def _decode(self, latents: Tensor) -> Pixels:
        """Latents to uint8 images (rows, height, width, 3); non-finite rows become black."""
        vae = self._pipe.vae
        at_once = max(1, DECODED_PIXELS // (self._sampling.width * self._sampling.height))
        parts = [
            vae.decode(part.to(vae.dtype, memory_format=self._layout), return_dict=False)[0]
            for part in self._family.encoded(vae, latents).split(at_once)
        ]
        shown = (torch.cat(parts) / 2 + 0.5).clamp(0, 1).float()
        finite = shown.isfinite().flatten(1).all(dim=1)
        if not finite.all():
            log.warning("%d images were not finite", int((~finite).sum()))
            shown = torch.where(finite[:, None, None, None], shown, torch.zeros_like(shown))
        return (shown * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def not_quantized(lora_targets: Sequence[str]) -> tuple[str, ...]:
    """Patterns of layers to leave unquantized: norms, and those that adapters fold into."""
    return (SENSITIVE, *(rf"\.{re.escape(name)}$" for name in lora_targets))


def _kernel(attention: Attention) -> AbstractContextManager[object]:
    """Select PyTorch's attention kernel inside the block, for the whole process."""
    return sdpa_kernel(_KERNELS[attention]) if attention in _KERNELS else nullcontext()
