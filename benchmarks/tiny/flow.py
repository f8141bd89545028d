"""Tiny flow-matching pipes with random weights: the real classes, a second to build."""

# pyright: reportArgumentType=false
# transformers and diffusers annotate their constructors more narrowly than they take values.

import copy
import string

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from benchmarks.tiny.diffusion import WIDTH, text_config, tiny_tokenizer

SHIFT, SCALE = 0.0609, 1.5305
"""Of SD3.5's VAE."""
CHANNELS = 4


def tiny_sd35(
    tokenizer: CLIPTokenizer | None = None,
    *,
    dual: bool = False,
    t5: bool = True,
    width: int = 3 * WIDTH,
) -> StableDiffusion3Pipeline:
    """A Stable Diffusion 3.5: 16x16 images, 8x8 latents, static shift 3.

    Args:
        tokenizer: of both CLIP encoders; letters and digits by default.
        dual: a second attention in the first block, as Medium has in 13 of its 24.
        t5: with the T5 encoder, which a checkpoint may leave out.
        width: of T5's states; both CLIP encoders together have 2 * WIDTH.
    """
    torch.manual_seed(0)
    tokenizer = tokenizer or tiny_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=CHANNELS, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=width, caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH, out_channels=CHANNELS, pos_embed_max_size=16,
        qk_norm="rms_norm", dual_attention_layers=(0,) if dual else (),
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=_awake(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(),
        text_encoder=CLIPTextModelWithProjection(text_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer)).eval(),
        tokenizer_2=copy.deepcopy(tokenizer),
        text_encoder_3=_t5(width) if t5 else None,
        tokenizer_3=_t5_tokenizer() if t5 else None,
    )


def tiny_flux(
    tokenizer: CLIPTokenizer | None = None, *, guided: bool = True, dynamic: bool = True
) -> FluxPipeline:
    """A FLUX.1: 16x16 images, 8x8 latents in 4x4 tokens.

    Args:
        tokenizer: of the CLIP encoder; letters and digits by default.
        guided: with a guidance embedding, as dev; else as schnell.
        dynamic: shift by the image's size, as dev; else none, as schnell.
    """
    torch.manual_seed(0)
    tokenizer = tokenizer or tiny_tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=4 * CHANNELS, num_layers=1, num_single_layers=1,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8), guidance_embeds=guided,
    )  # fmt: skip
    return FluxPipeline(
        transformer=_awake(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=3.0 if dynamic else 1.0,
            use_dynamic_shifting=dynamic,
            base_image_seq_len=4,
            max_image_seq_len=64,
        ),
        vae=_vae(),
        text_encoder=CLIPTextModel(text_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        text_encoder_2=_t5(WIDTH),
        tokenizer_2=_t5_tokenizer(),
    )


def _awake(transformer: torch.nn.Module) -> torch.nn.Module:
    """Random where diffusers starts from zeros, so that every part of the input matters."""
    for weight in transformer.parameters():
        if not weight.detach().any():
            torch.nn.init.normal_(weight, std=0.05)
    return transformer.eval()


def _t5(width: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=width, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5EncoderModel(config).eval()


def _t5_tokenizer() -> T5Tokenizer:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\N{LOWER ONE EIGHTH BLOCK}", -2.0)]
    pieces += [(letter, -3.0) for letter in string.ascii_lowercase + string.digits]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=SCALE,
        shift_factor=SHIFT,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    ).eval()
