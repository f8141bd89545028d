"""What differs between families of diffusion models, behind one protocol.

A family is one file here and one entry in ``registry.py``: rooms and engines ask it and name no
model. A pipe is diffusers' own, and its denoiser a UNet or a transformer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from alignguard_data.engines.families.conditions import Conditions


class Family(Protocol):
    """One family; its objects have no state.

    Attributes:
        name: for messages, and of the file.
        pipe_class: class in diffusers, as a checkpoint's model_index.json names it.
        loading: further arguments of that class's ``from_pretrained``.
        denoiser: the pipe's attribute that denoises, and what a LoRA file's keys begin with.
        blocks: top-level modules of the denoiser that hold attention.
        text_encoders: the pipe's attributes that encode prompts.
        lora_targets: names of the projections that an adapter changes, as peft matches them.
        self_attention_targets: those of them that read the image only.
    """

    name: str
    pipe_class: str
    loading: Mapping[str, Any]
    denoiser: str
    blocks: tuple[str, ...]
    text_encoders: tuple[str, ...]
    lora_targets: tuple[str, ...]
    self_attention_targets: tuple[str, ...]

    def recognises(self, pipe: Any) -> bool:
        """Whether a loaded pipe is of this family."""
        ...

    def native_size(self, pipe: Any) -> int:
        """Side in pixels of the square images that the checkpoint was trained on."""
        ...

    def latent_channels(self, denoiser: Any) -> int:
        """Channels of latents (rows, channels, h, w), before a denoiser that packs them does so."""
        ...

    def latents(self, vae: Any, encoded: Tensor) -> Tensor:
        """Scaled latents of what the VAE encoded: (encoded - shift) * scale; no shift for UNets."""
        ...

    def encoded(self, vae: Any, latents: Tensor) -> Tensor:
        """What the VAE decodes, of scaled latents: latents / scale + shift."""
        ...

    def encode(self, pipe: Any, prompts: Sequence[str]) -> Conditions:
        """Conditions of prompts, one row each, from the pipe's own encoders."""
        ...

    def encode_unconditional(self, pipe: Any, negative_prompt: str) -> Conditions:
        """The one row that guidance leads away from; of an empty text what the pipe itself has."""
        ...

    def arguments(
        self, denoiser: Any, conditions: Conditions, *, height: int, width: int
    ) -> dict[str, Any]:
        """Keyword arguments of the denoiser for images of ``height`` x ``width`` pixels."""
        ...

    def guidance(self, pipe: Any, scale: float, rows: int) -> dict[str, Any] | None:
        """Arguments of a distilled denoiser, which takes the guidance as an input.

        None for a model under classifier-free guidance, which is asked with and without the prompt.
        """
        ...

    def predict(
        self, denoiser: Any, latents: Tensor, t: Tensor, arguments: Mapping[str, Any]
    ) -> Tensor:
        """The denoiser's prediction, shaped as ``latents`` (rows, channels, h, w).

        Args:
            denoiser: the pipe's, or one that computes as it does.
            latents: as the scheduler gives them.
            t: the scheduler's own time, one or a row each; for a flow sigma times its number of
                training timesteps.
            arguments: of :meth:`arguments`, and of :meth:`guidance` when rendering.
        """
        ...

    def set_timesteps(
        self, scheduler: Any, steps: int, *, pixels: tuple[int, int], on: Any
    ) -> None:
        """Set ``steps`` on a scheduler, on device ``on``; a flow may shift them by the size."""
        ...
