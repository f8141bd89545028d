"""The frozen base model under training. Its identity is cheap; weights load at first use."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.model_source import ModelSource
from alignguard_train.contracts.flow import FlowTraining, guidance_fault, shift_fault

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from alignguard_data.engines.diffusion.conditions import Conditions, Pipe
    from alignguard_data.engines.families.family import Family


class BaseModel:
    """A checkpoint of a known family, a local folder or a hub id with its revision.

    Args:
        model: folder or hub id.
        revision: commit of a hub id.
        device: ``auto`` (a GPU if there is one) or a torch device.
        dtype: a torch dtype's name, ``auto``, or ``tf32``: float32 weights whose products a GPU may
            make in TensorFloat-32 (see :meth:`products`).
        vae: folder or hub id of another VAE than the checkpoint's.
        vae_revision: commit of its hub id.
        flow: how a flow model is trained; training needs it for one and refuses it for another.

    Raises:
        EngineError: a hub id without a revision.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        vae: str | None = None,
        vae_revision: str | None = None,
        flow: FlowTraining | None = None,
    ) -> None:
        self.source = ModelSource(model, revision)
        self._vae = ModelSource(vae, vae_revision, field="vae_revision") if vae else None
        self._device, self._dtype = device, dtype
        self.flow = flow

    @property
    def model_id(self) -> str:
        """The hub id, or the folder's name without its path."""
        return self.source.model_id

    @property
    def revision(self) -> str:
        """Hash of the folder's files, or the hub id's commit."""
        return self.source.revision

    @property
    def models(self) -> dict[str, str]:
        """Revisions by model id: the base model's, and the separate VAE's if there is one."""
        found = {self.model_id: self.revision}
        return found | ({f"vae {self._vae.model_id}": self._vae.revision} if self._vae else {})

    @property
    def numerics(self) -> dict[str, str]:
        """The configured precision; ``auto`` depends on the device."""
        return {"dtype": self._dtype}

    @property
    def on_gpu(self) -> bool:
        """Whether the weights are on a CUDA device."""
        import torch

        return torch.cuda.is_available() if self._device == "auto" else "cuda" in self._device

    def unloaded(self, *, gpu: int | None = None) -> "BaseModel":
        """The same checkpoint, not loaded, for another process; ``gpu``: on that GPU."""
        return BaseModel(
            model=self.source.model,
            revision=self.source.commit,
            device=self._device if gpu is None else f"cuda:{gpu}",
            dtype=self._dtype,
            vae=self._vae.model if self._vae else None,
            vae_revision=self._vae.commit if self._vae else None,
            flow=self.flow,
        )

    @property
    def training(self) -> dict[str, Any]:
        """How its noise is drawn, for a fingerprint; empty for a diffusion model."""
        return {"flow": self.flow.recorded} if self.flow else {}

    @cached_property
    def pipe(self) -> "Pipe":
        """The loaded pipe with every weight frozen.

        Returns:
            A diffusers pipe; only safetensors are read.

        Raises:
            EngineError: the checkpoint cannot be loaded.
        """
        from alignguard_data.engines.diffusion.loading import load_pipeline

        return load_pipeline(
            self.source,
            device=self._device,
            dtype="float32" if self._dtype == "tf32" else self._dtype,
            vae=self._vae,
        )

    @cached_property
    def family(self) -> "Family":
        """The family of the pipe's model."""
        from alignguard_data.engines.families.registry import family_of

        return family_of(self.pipe)

    @property
    def denoiser(self) -> Any:
        """The network under training: the pipe's UNet or transformer."""
        return getattr(self.pipe, self.family.denoiser)

    @contextmanager
    def products(self) -> Iterator[None]:
        """Set the precision of matrix products, forward and backward, within the block.

        The setting is process-wide and affects CUDA only.
        """
        import torch

        matmul = torch.backends.cuda.matmul
        before, matmul.allow_tf32 = matmul.allow_tf32, self._dtype == "tf32"
        try:
            yield
        finally:
            matmul.allow_tf32 = before

    def pixels(self, latents: "Tensor") -> dict[str, int]:
        """Height and width in pixels of the images of latents (rows, channels, h, w)."""
        factor = self.pipe.vae_scale_factor
        return {"height": latents.shape[2] * factor, "width": latents.shape[3] * factor}

    def arguments(self, conditions: "Conditions", latents: "Tensor") -> dict[str, Any]:
        """The denoiser's arguments for these captions and latents, one row each."""
        found = self.family.arguments(self.denoiser, conditions, **self.pixels(latents))
        if self.flow and self.flow.guidance is not None:
            found |= self.family.guidance(self.pipe, self.flow.guidance, len(latents)) or {}
        return found

    @property
    def is_flow(self) -> bool:
        """Whether the loaded checkpoint's scheduler is of flow matching."""
        from alignguard_train.contracts.noise import prediction_type_of

        return prediction_type_of(self.pipe.scheduler) == "flow"

    def check_training(self) -> None:
        """Refuse settings of ``flow`` that do not fit the loaded checkpoint.

        Raises:
            EngineError: every fault, by its field and value.
        """
        if not self.family.flow:
            if self.flow is not None:
                raise EngineError(
                    f"base_model.flow: {self.model_id} is not a flow model but {self.family.name}; "
                    "leave it out"
                )
            return
        if self.flow is None:
            raise EngineError(
                f"base_model.flow is missing: {self.model_id} is a flow model ({self.family.name}) "
                "whose training is not configured; set times and shift (docs/how-to/flow.md)"
            )
        embedded = bool(self.denoiser.config.get("guidance_embeds", False))
        faults = [
            shift_fault(self.flow, self.pipe.scheduler.config),
            guidance_fault(self.flow, embedded=embedded),
        ]
        if found := "; ".join(fault for fault in faults if fault):
            raise EngineError(found)

    def shift(self, size: tuple[int, int]) -> float | None:
        """By what factor training shifts shares of noise at this size.

        Args:
            size: height and width of the latents.

        Returns:
            The factor; None for a diffusion model, and where the scheduler's own number holds.
        """
        if self.flow is None or self.flow.shift == "static":
            return None
        if self.flow.shift == "none":
            return 1.0
        return self.family.dynamic_shift(self.pipe.scheduler, size)

    def noised(self, x0: "Tensor", noise: "Tensor", t: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
        """Noisy latents, the denoiser's times and targets, as in training.

        Args:
            x0: latents (rows, channels, h, w).
            noise: likewise.
            t: timesteps (rows,).

        Returns:
            Noisy latents (rows, channels, h, w), times (rows,), targets (rows, channels, h, w).
        """
        from alignguard_train.contracts.noise import noised

        shift = self.shift((x0.shape[2], x0.shape[3]))
        return noised(self.pipe.scheduler, x0, noise, t, shift=shift)

    def timesteps(
        self, number: int, generator: "Generator", *, t_max: float, size: tuple[int, int]
    ) -> "Tensor":
        """Draw timesteps as in training.

        Args:
            number: how many.
            generator: of the CPU.
            t_max: largest noise, as in a recipe.
            size: height and width of the latents, which decide a flow's dynamic shift.

        Returns:
            int64 (number,).
        """
        from alignguard_train.contracts.noise import drawn_timesteps, timesteps_up_to

        config = self.pipe.scheduler.config
        shift = None
        if self.is_flow:
            own = self.shift(size)
            shift = config.shift if own is None else own
        steps = config.num_train_timesteps
        below = timesteps_up_to(t_max, steps, shift=shift)
        return drawn_timesteps(number, steps, self.flow, generator, below=below)

    def predict(self, latents: "Tensor", t: "Tensor", arguments: dict[str, Any]) -> "Tensor":
        """The denoiser's prediction for noisy latents at times ``t``, a row each."""
        return self.family.predict(self.denoiser, latents, t, arguments)
