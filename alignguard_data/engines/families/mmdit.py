"""Code shared by the families with a flow-matching transformer: Stable Diffusion 3.5 and FLUX.

Such a denoiser is a multimodal diffusion transformer (MMDiT, arXiv 2403.03206): text and image
tokens pass the same attention, so there is neither self- nor cross-attention as in a UNet.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.families.conditions import Conditions

IMAGE = ("to_q", "to_k", "to_v", "to_out.0")
TEXT = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
JOINT_TARGETS = tuple(f"attn.{name}" for name in (*IMAGE, *TEXT))
"""Projections of joint attention, as diffusers' DreamBooth scripts for SD3 and FLUX train them."""


class FlowFamily:
    """Base of every ``Family`` with a transformer and a flow scheduler."""

    name: str
    pipe_class: str
    editing_class: str = ""
    transformer: str
    loading: Mapping[str, Any] = {}
    denoiser: str = "transformer"
    flow: bool = True
    latent_multiple: int = 2
    distilled: bool = False
    blocks: tuple[str, ...]
    text_encoders: tuple[str, ...]
    optional: tuple[str, ...] = ()
    lora_targets: tuple[str, ...]
    self_attention_targets: tuple[str, ...] = ()

    def recognises(self, pipe: Any) -> bool:
        """By the transformer's class."""
        return type(getattr(pipe, self.denoiser, None)).__name__ == self.transformer

    def check(self, pipe: Any) -> None:
        """Its text encoders, the VAE's shift and scale, and a flow's scheduler."""
        faults = [
            f"vae.config.{name} must be a number, got {value!r}"
            for name in ("scaling_factor", "shift_factor")
            if not isinstance(value := getattr(pipe.vae.config, name, None), int | float)
        ]
        faults += [
            f"{name} is left out"
            for name in self.text_encoders
            if name not in self.optional and getattr(pipe, name, None) is None
        ]
        kind = type(pipe.scheduler).__name__
        if not kind.startswith("FlowMatch"):
            faults.append(f"scheduler must be one of flow matching, got {kind}")
        elif (how := pipe.scheduler.config.get("time_shift_type", "exponential")) != "exponential":
            faults.append(f"scheduler.config.time_shift_type must be exponential, got {how}")
        if faults:
            raise EngineError(f"this {self.name} checkpoint cannot be used: {'; '.join(faults)}")

    def latents(self, vae: Any, encoded: Tensor) -> Tensor:
        """Shifted, then scaled; the checkpoint's own shift is never taken as 0."""
        return (encoded - vae.config.shift_factor) * vae.config.scaling_factor

    def encoded(self, vae: Any, latents: Tensor) -> Tensor:
        """The inverse."""
        return latents / vae.config.scaling_factor + vae.config.shift_factor

    def encode(self, pipe: Any, prompts: Sequence[str]) -> Conditions:
        """As the family's encoders do."""
        raise NotImplementedError

    def encode_unconditional(self, pipe: Any, negative_prompt: str) -> Conditions:
        """The text's states, also of the empty text."""
        return self.encode(pipe, [negative_prompt])

    def dynamic_shift(self, scheduler: Any, latent: tuple[int, int]) -> float | None:
        """exp(mu), where mu grows linearly with the number of image tokens, as in the pipe."""
        mu = self._mu(scheduler, latent)
        return None if mu is None else math.exp(mu)

    def set_timesteps(
        self, scheduler: Any, steps: int, *, latent: tuple[int, int], on: Any
    ) -> None:
        """The pipe's spacing, shifted by the size where its scheduler does so."""
        mu = self._mu(scheduler, latent)
        more = {} if mu is None else {"mu": mu}
        scheduler.set_timesteps(steps, device=on, **self.spacing(steps), **more)

    def spacing(self, steps: int) -> dict[str, Any]:
        """What the pipe says of the spacing of steps: nothing, so the scheduler decides."""
        return {}

    def _mu(self, scheduler: Any, latent: tuple[int, int]) -> float | None:
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        chosen = scheduler.config
        if not chosen.get("use_dynamic_shifting", False):
            return None
        tokens = (latent[0] // self.latent_multiple) * (latent[1] // self.latent_multiple)
        return calculate_shift(
            tokens,
            chosen.base_image_seq_len,
            chosen.max_image_seq_len,
            chosen.base_shift,
            chosen.max_shift,
        )
