"""Stable Diffusion 3.5, Medium and Large: three text encoders and a transformer."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from alignguard_data.engines.families.conditions import Conditions
from alignguard_data.engines.families.mmdit import IMAGE, JOINT_TARGETS, FlowFamily

T5_TOKENS = 256
"""Tokens of the T5 encoder, as diffusers' pipe has by default."""


class StableDiffusion35(FlowFamily):
    """CLIP ViT-L/14, OpenCLIP ViT-bigG/14 and T5, which a checkpoint may leave out.

    Medium has a second attention, of the image only, in its first blocks; an adapter changes it
    too.
    """

    name = "sd35"
    pipe_class = "StableDiffusion3Pipeline"
    editing_class = "StableDiffusion3Img2ImgPipeline"
    transformer = "SD3Transformer2DModel"
    blocks: tuple[str, ...] = ("transformer_blocks",)
    text_encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2", "text_encoder_3")
    optional: tuple[str, ...] = ("text_encoder_3",)
    lora_targets: tuple[str, ...] = (*JOINT_TARGETS, *(f"attn2.{name}" for name in IMAGE))

    def native_size(self, pipe: Any) -> int:
        """Of the transformer's configuration: 1024."""
        return pipe.transformer.config.sample_size * pipe.vae_scale_factor

    def latent_channels(self, denoiser: Any) -> int:
        """The transformer's inputs."""
        return denoiser.config.in_channels

    def encode(self, pipe: Any, prompts: Sequence[str]) -> Conditions:
        """States of CLIP, padded to T5's width, then T5's; pooled states of both CLIPs."""
        texts = list(prompts)
        states, _, pooled, _ = pipe.encode_prompt(
            texts, texts, texts,
            device=pipe.transformer.device,
            do_classifier_free_guidance=False,
            max_sequence_length=_t5_tokens(pipe),
        )  # fmt: skip
        return Conditions(states=states, pooled=pooled)

    def arguments(
        self, denoiser: Any, conditions: Conditions, *, height: int, width: int
    ) -> dict[str, Any]:
        """Text states and pooled states."""
        del denoiser, height, width
        return {
            "encoder_hidden_states": conditions.states,
            "pooled_projections": conditions.pooled,
        }

    def guidance(self, pipe: Any, scale: float, rows: int) -> dict[str, Any] | None:
        """None: it renders under classifier-free guidance."""
        return None

    def predict(self, denoiser: Any, latents: Tensor, t: Tensor, arguments: Any) -> Tensor:
        """The velocity, noise - image."""
        times = t.expand(len(latents)).to(latents.dtype)
        return denoiser(latents, timestep=times, **arguments, return_dict=False)[0]


def _t5_tokens(pipe: Any) -> int:
    """Tokens that follow CLIP's: 256, zeros where a checkpoint leaves its T5 out.

    None for a transformer no wider than both CLIP encoders: it was made without T5, and zeros
    would only take attention and time.
    """
    clips = (pipe.text_encoder, pipe.text_encoder_2)
    width = sum(clip.config.hidden_size for clip in clips)
    without = pipe.text_encoder_3 is None and pipe.transformer.config.joint_attention_dim == width
    return 0 if without else T5_TOKENS
