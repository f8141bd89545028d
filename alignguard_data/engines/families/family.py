"""The differences between families of diffusion models, behind one protocol.

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
        editing_class: diffusers' class of image to image over the same networks; empty if negative
            prompts have no effect, so that images cannot be edited.
        loading: further arguments of that class's ``from_pretrained``.
        denoiser: the pipe's attribute that denoises, and what a LoRA file's keys begin with.
        blocks: top-level modules of the denoiser that hold attention.
        text_encoders: the pipe's attributes that encode prompts.
        lora_targets: names of the projections that an adapter changes, as peft matches them.
        self_attention_targets: those of them that read the image only; none for a transformer
            that attends to text and image at once.
        flow: whether it is trained by flow matching, so a profile must say how (base_model.flow).
        latent_multiple: sides of latents must be multiples of it.
        distilled: whether none of its models renders under classifier-free guidance, so that a
            negative prompt has no effect.
    """

    name: str
    pipe_class: str
    editing_class: str
    loading: Mapping[str, Any]
    denoiser: str
    blocks: tuple[str, ...]
    text_encoders: tuple[str, ...]
    lora_targets: tuple[str, ...]
    self_attention_targets: tuple[str, ...]
    flow: bool
    latent_multiple: int
    distilled: bool

    def recognises(self, pipe: Any) -> bool:
        """Whether a loaded pipe is of this family.

        Args:
            pipe: a diffusers pipe.

        Returns:
            True if it has the family's parts; of several such families the first in the registry
            is the pipe's.
        """
        ...

    def check(self, pipe: Any) -> None:
        """Refuse a checkpoint that lacks what the family computes with.

        Args:
            pipe: of this family, just loaded.

        Raises:
            EngineError: every such fault, by its field and value.
        """
        ...

    def native_size(self, pipe: Any) -> int:
        """Side of the square images that the checkpoint was trained on.

        Args:
            pipe: of this family.

        Returns:
            Pixels.
        """
        ...

    def latent_channels(self, denoiser: Any) -> int:
        """Channels of latents (rows, channels, h, w), before a denoiser that packs them does so.

        Args:
            denoiser: the pipe's.

        Returns:
            For example 4 for Stable Diffusion.
        """
        ...

    def latents(self, vae: Any, encoded: Tensor) -> Tensor:
        """Scale what the VAE encoded: (encoded - shift) * scale; no shift for UNets.

        Args:
            vae: its config has scale and shift.
            encoded: latents of the VAE (rows, channels, h, w).

        Returns:
            Latents of the denoiser, of the same shape.
        """
        ...

    def encoded(self, vae: Any, latents: Tensor) -> Tensor:
        """The inverse of :meth:`latents`: latents / scale + shift.

        Args:
            vae: its config has scale and shift.
            latents: of the denoiser (rows, channels, h, w).

        Returns:
            What the VAE decodes, of the same shape.
        """
        ...

    def encode(self, pipe: Any, prompts: Sequence[str]) -> Conditions:
        """Encode prompts with the pipe's own encoders.

        Args:
            pipe: of this family.
            prompts: texts; their order is that of the rows.

        Returns:
            One row a prompt, on the pipe's device.
        """
        ...

    def encode_unconditional(self, pipe: Any, negative_prompt: str) -> Conditions:
        """The row that guidance leads away from.

        Args:
            pipe: of this family.
            negative_prompt: of an empty text the row is what the pipe itself has.

        Returns:
            A single row.
        """
        ...

    def arguments(
        self, denoiser: Any, conditions: Conditions, *, height: int, width: int
    ) -> dict[str, Any]:
        """Keyword arguments of the denoiser.

        Args:
            denoiser: the pipe's.
            conditions: one row an image.
            height: of the images, in pixels.
            width: of the images, in pixels.

        Returns:
            Arguments by name, except latents and time.
        """
        ...

    def guidance(self, pipe: Any, scale: float, rows: int) -> dict[str, Any] | None:
        """Arguments of a distilled denoiser, which takes the guidance as an input.

        Args:
            pipe: of this family.
            scale: the guidance scale.
            rows: images of the batch.

        Returns:
            Arguments by name, or None for a model under classifier-free guidance, which is asked
            with and without the prompt.
        """
        ...

    def predict(
        self, denoiser: Any, latents: Tensor, t: Tensor, arguments: Mapping[str, Any]
    ) -> Tensor:
        """The denoiser's prediction: noise, v or a flow's velocity, as the checkpoint was trained.

        Args:
            denoiser: the pipe's, or one that computes as it does.
            latents: as the scheduler gives them.
            t: the scheduler's own time, one or a row each; for a flow sigma times its number of
                training timesteps.
            arguments: of :meth:`arguments`, and of :meth:`guidance` when rendering.

        Returns:
            Shaped as ``latents`` (rows, channels, h, w).
        """
        ...

    def dynamic_shift(self, scheduler: Any, latent: tuple[int, int]) -> float | None:
        """By what factor a flow's scheduler shifts its shares of noise at a size.

        Args:
            scheduler: of the pipe.
            latent: height and width of the latents.

        Returns:
            The factor s of :func:`alignguard_train.contracts.noise.flow_sigma`; None where the size
            does not matter.
        """
        ...

    def set_timesteps(
        self, scheduler: Any, steps: int, *, latent: tuple[int, int], on: Any
    ) -> None:
        """Set the timesteps of a scheduler; a flow may shift them by the size.

        Args:
            scheduler: of the pipe, or a copy.
            steps: number of denoising steps.
            latent: height and width of the latents.
            on: device of the timesteps.
        """
        ...
