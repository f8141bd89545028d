"""Tiny Stable Diffusion pipes with random weights: the real classes, a second to build."""

# pyright: reportArgumentType=false
# transformers and diffusers annotate their constructors more narrowly than they take values.

import copy
import string
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

WIDTH = 32
TOKENS = 12
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def tiny_pipe(
    prediction_type: str = "v_prediction", tokenizer: CLIPTokenizer | None = None
) -> StableDiffusionPipeline:
    """A Stable Diffusion 1.5 or 2.1: 16x16 images, 8x8 latents."""
    torch.manual_seed(0)
    scheduler = DDIMScheduler(
        **SCHEDULE,
        prediction_type=prediction_type,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
    )
    return _plain(scheduler, tokenizer or tiny_tokenizer())


def tiny_lcm() -> StableDiffusionPipeline:
    """A distilled model: guidance is an input of its UNet."""
    torch.manual_seed(0)
    return _plain(LCMScheduler(**SCHEDULE, steps_offset=1), tiny_tokenizer(), time_cond_proj_dim=8)


def tiny_xl(tokenizer: CLIPTokenizer | None = None) -> StableDiffusionXLPipeline:
    """A Stable Diffusion XL: two text encoders, pooled states, time ids."""
    torch.manual_seed(0)
    tokenizer = tokenizer or tiny_tokenizer()
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(text_config(tokenizer)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        tokenizer_2=copy.deepcopy(tokenizer),
        unet=_unet(
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 6 * 8,
            use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )


def _plain(scheduler: Any, tokenizer: CLIPTokenizer, **unet: Any) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(text_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        unet=_unet(cross_attention_dim=WIDTH, **unet),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_tokenizer() -> CLIPTokenizer:
    """Letters and digits, each with and without a word's end."""
    letters = [*string.ascii_lowercase, *string.digits]
    entries = [*letters, *(letter + "</w>" for letter in letters)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={entry: i for i, entry in enumerate(entries)}, merges=[], model_max_length=TOKENS
    )


def text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """Of a tiny CLIP text encoder, which reads :data:`TOKENS` tokens."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _unet(**changes: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=8,
        **changes,
    ).eval()


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    ).eval()
