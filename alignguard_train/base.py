"""The frozen base model under training. Its identity is cheap; weights load at first use."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alignguard_data.engines.model_source import ModelSource

if TYPE_CHECKING:
    from torch import Tensor

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
    ) -> None:
        self.source = ModelSource(model, revision)
        self._vae = ModelSource(vae, vae_revision, field="vae_revision") if vae else None
        self._device, self._dtype = device, dtype

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
        )

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
        """What is particular to the pipe's kind of model."""
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
        return self.family.arguments(self.denoiser, conditions, **self.pixels(latents))

    def predict(self, latents: "Tensor", t: "Tensor", arguments: dict[str, Any]) -> "Tensor":
        """The denoiser's prediction for noisy latents at times ``t``, a row each."""
        return self.family.predict(self.denoiser, latents, t, arguments)
