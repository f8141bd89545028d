"""Code shared by the families with a UNet: Stable Diffusion 1.5, 2.1 and XL."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from alignguard_data.engines.families.conditions import Conditions

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The UNet's attention projections, self and cross, as in the authors' code."""
SELF_ATTENTION_TARGETS = tuple(f"attn1.{name}" for name in LORA_TARGETS)
"""Self-attention projections only (DUO, arXiv 2407.21035)."""


class UNetFamily:
    """A ``Family`` whose denoiser is a ``UNet2DConditionModel``, with one text encoder or two."""

    name: str
    pipe_class: str
    editing_class: str = ""
    loading: Mapping[str, Any]
    denoiser: str = "unet"
    blocks: tuple[str, ...] = ("down_blocks", "mid_block", "up_blocks")
    text_encoders: tuple[str, ...] = ("text_encoder",)
    lora_targets: tuple[str, ...] = LORA_TARGETS
    self_attention_targets: tuple[str, ...] = SELF_ATTENTION_TARGETS
    flow: bool = False
    latent_multiple: int = 1
    distilled: bool = False

    def recognises(self, pipe: Any) -> bool:
        """A UNet, and exactly this family's text encoders."""
        named = ("text_encoder", "text_encoder_2", "text_encoder_3")
        has = tuple(name for name in named if getattr(pipe, name, None) is not None)
        return getattr(pipe, "unet", None) is not None and has == self.text_encoders

    def check(self, pipe: Any) -> None:
        """Nothing: the configuration has all of it."""

    def native_size(self, pipe: Any) -> int:
        """Of the UNet's configuration: 512 for 1.5, 768 for 2.1, 1024 for XL."""
        return pipe.unet.config.sample_size * pipe.vae_scale_factor

    def latent_channels(self, denoiser: Any) -> int:
        """The UNet's inputs."""
        return denoiser.config.in_channels

    def latents(self, vae: Any, encoded: Tensor) -> Tensor:
        """Scaled, without a shift."""
        return encoded * vae.config.scaling_factor

    def encoded(self, vae: Any, latents: Tensor) -> Tensor:
        """The inverse."""
        return latents / vae.config.scaling_factor

    def encode(self, pipe: Any, prompts: Sequence[str]) -> Conditions:
        """Text states of the one encoder."""
        return Conditions(states=pipe.encode_prompt(list(prompts), pipe.unet.device, 1, False)[0])

    def encode_unconditional(self, pipe: Any, negative_prompt: str) -> Conditions:
        """The text's states, also of the empty text."""
        return self.encode(pipe, [negative_prompt])

    def arguments(
        self, denoiser: Any, conditions: Conditions, *, height: int, width: int
    ) -> dict[str, Any]:
        """Text states."""
        del denoiser, height, width
        return {"encoder_hidden_states": conditions.states}

    def guidance(self, pipe: Any, scale: float, rows: int) -> dict[str, Any] | None:
        """The embedded scale for a latent consistency model (LCM), else None."""
        unet = pipe.unet
        if unet.config.time_cond_proj_dim is None:
            return None
        embedding = pipe.get_guidance_scale_embedding(
            torch.full((rows,), scale - 1), embedding_dim=unet.config.time_cond_proj_dim
        )
        return {"timestep_cond": embedding.to(unet.device, unet.dtype)}

    def predict(
        self, denoiser: Any, latents: Tensor, t: Tensor, arguments: Mapping[str, Any]
    ) -> Tensor:
        """One forward pass."""
        return denoiser(latents, t, **arguments, return_dict=False)[0]

    def dynamic_shift(self, scheduler: Any, latent: tuple[int, int]) -> float | None:
        """None: the size does not matter."""
        return None

    def set_timesteps(
        self, scheduler: Any, steps: int, *, latent: tuple[int, int], on: Any
    ) -> None:
        """The checkpoint's own spacing; the size does not matter."""
        del latent
        scheduler.set_timesteps(steps, device=on)
