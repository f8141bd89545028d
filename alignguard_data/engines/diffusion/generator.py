"""Renders prompts with a Stable Diffusion (XL) checkpoint through diffusers, in full batches.

Construction is cheap: torch and the weights load at the first rendering. The denoising loop is in
``diffusion/pipeline.py``.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alignguard_data.contracts.protocols import Edit, Pixels, Progress
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.speed import Speed
from alignguard_data.engines.weights import file_revision

if TYPE_CHECKING:
    from alignguard_data.engines.diffusion.conditions import Conditions, Pipe
    from alignguard_data.engines.diffusion.pipeline import DiffusersPipe


class DiffusersImageGenerator:
    """An ``ImageGenerator`` over a Stable Diffusion (XL) pipe: a local folder or a hub id.

    On a CPU, ``threads`` workers render one batch each, with one compute thread: two workers are
    about twice as fast as one, while one worker with two threads gains a fifth. ``threads`` and the
    other rows of a batch do not change an image. ``sampling`` does, and on a CPU without AVX-512
    the position in the batch may change one or two values by 1 of 255.

    Args:
        model: folder in diffusers format or hub id.
        sampling: steps, guidance, size and batch size.
        revision: commit of a hub id.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``auto`` (float16 on a GPU, float32 on a CPU), or a torch dtype's name.
        threads: workers on a CPU; other devices use one.
        adapter: a LoRA file to fold into the model at load.
        name: model id to record; by default the folder's name.
        vae: folder or hub id of another VAE (SDXL's own overflows in float16).
        vae_revision: commit of that hub id.
        speed: compilation, attention kernel, layout, VAE memory; ``auto`` by device.

    Raises:
        EngineError: a hub id without a revision.
    """

    def __init__(
        self,
        *,
        model: str,
        sampling: Sampling,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        threads: int = 2,
        adapter: Path | None = None,
        name: str | None = None,
        vae: str | None = None,
        vae_revision: str | None = None,
        speed: Speed | None = None,
    ) -> None:
        self._source = ModelSource(model, revision)
        self._vae = ModelSource(vae, vae_revision, field="vae_revision") if vae else None
        self._speed = speed or Speed()
        self._name = name
        self._device, self._dtype, self._threads = device, dtype, threads
        self._adapter = adapter
        self._pipe: DiffusersPipe | None = None
        self._loading = threading.Lock()
        self.sampling = sampling

    @property
    def model_id(self) -> str:
        """The hub id or the folder's name, never a path of this machine."""
        return self._name or self._source.model_id

    @property
    def revision(self) -> str:
        """Hash of the folder's files, or commit of the hub id.

        Followed by ``+<hash>`` for another VAE, the speed options that change images, and
        ``+<hash>`` for an adapter.
        """
        vae, parts = self._vae, [self._source.revision]
        if vae:
            parts.append(vae.revision if vae.is_local else vae.identity)
        parts.extend(self._speed.changes_images)
        if self._adapter:
            parts.append(file_revision(self._adapter))
        return "+".join(parts)

    @property
    def numerics(self) -> dict[str, str]:
        """The configured precision; ``auto`` depends on the device."""
        return {"dtype": self._dtype}

    @property
    def images_per_call(self) -> int:
        """Batch size times workers; lower after an out-of-memory error."""
        return self._loaded().images_per_call

    def render(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress | None = None
    ) -> Pixels:
        """Render each prompt from the noise of its seed.

        Args:
            prompts: one per image.
            seeds: seed of the initial noise, one per prompt.
            progress: called with the number of images just finished.

        Returns:
            The images, uint8 (len(prompts), height, width, 3).

        Raises:
            EngineError: the checkpoint cannot be loaded, or one image does not fit into memory.
            ValueError: not one seed per prompt.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
        return self._loaded().render(prompts, seeds, progress)

    def edit(self, images: Pixels, edits: Sequence[Edit], strength: float) -> Pixels:
        """Edit each image with the family's image-to-image pipe of diffusers (SDEdit).

        Args:
            images: uint8 (rows, height, width, 3), of the sampling's size.
            edits: one per image.
            strength: share of the noise that is added, in (0, 1].

        Returns:
            The edited images, of the same shape.

        Raises:
            EngineError: the family or the sampling cannot edit, or a batch does not fit into
                memory.
            ValueError: not one edit per image, or a strength outside (0, 1].
        """
        if len(images) != len(edits):
            raise ValueError(f"{len(images)} images but {len(edits)} edits")
        if not 0 < strength <= 1:
            raise ValueError(f"strength must lie in (0, 1], got {strength}")
        return self._loaded().edit(images, edits, strength)

    def render_conditions(self, conditions: "Conditions", seeds: Sequence[int]) -> Pixels:
        """Render text states, as :meth:`render` draws the text that they encode.

        Args:
            conditions: one row per image.
            seeds: seed of the initial noise, one per row.

        Returns:
            The images, uint8 (len(conditions), height, width, 3).

        Raises:
            EngineError: as of :meth:`render`.
            ValueError: not one seed per row.
        """
        if len(conditions) != len(seeds):
            raise ValueError(f"{len(conditions)} rows of text states but {len(seeds)} seeds")
        return self._loaded().render(conditions, seeds, None)

    @contextmanager
    def adapted(self, adapter: Path | None) -> Iterator[None]:
        """Render with a LoRA file inside the block.

        The adapter is folded into the weights, so rendering is as fast as without it. The exit
        restores the weights bit for bit.

        Args:
            adapter: a safetensors file in diffusers' format; None renders the base model.

        Raises:
            EngineError: the file is not a LoRA for this UNet.
        """
        if adapter is None:
            yield
            return
        with self._loaded().adapted(adapter):
            yield

    @contextmanager
    def changed(self, change: "Callable[[Pipe], Pipe]") -> Iterator[None]:
        """Render with another pipe inside the block; noise and denoising loop stay the same.

        Args:
            change: makes that pipe of the loaded one, which it must not modify.

        Raises:
            EngineError: ``change`` cannot work with this pipe.
        """
        with self._loaded().changed(change):
            yield

    @contextmanager
    def sampled(self, sampling: Sampling) -> Iterator[None]:
        """Render with other sampling inside the block.

        Args:
            sampling: steps, guidance, solver and size; its batch size and negative prompt are not
                used.

        Raises:
            EngineError: the checkpoint cannot be loaded.
        """
        before, self.sampling = self.sampling, sampling
        try:
            with self._loaded().sampled(sampling):
                yield
        finally:
            self.sampling = before

    def _loaded(self) -> "DiffusersPipe":
        with self._loading:
            if self._pipe is None:
                from alignguard_data.engines.diffusion.pipeline import DiffusersPipe

                pipe = DiffusersPipe.load(
                    self._source,
                    device=self._device,
                    dtype=self._dtype,
                    threads=self._threads,
                    sampling=self.sampling,
                    vae=self._vae,
                    speed=self._speed,
                )
                if self._adapter:
                    pipe.fold_in(self._adapter)
                self._pipe = pipe
            return self._pipe
