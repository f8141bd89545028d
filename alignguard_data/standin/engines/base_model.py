"""Builds and trains the stand-in's base model, a tiny ``StableDiffusionPipeline``.

All parts are trained from scratch on drawings: autoencoder, text encoder and UNet. There is no
safety checker or feature extractor, since AlignGuard judges the images.
"""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor
from torch.nn.functional import mse_loss

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.engines.diffusion import (
    DiffusionRecipe,
    build_scheduler,
    build_text_encoder,
    build_unet,
    train_diffusion,
)
from alignguard_data.standin.engines.parallel import gather_rows, rank
from alignguard_data.standin.engines.tokenizer import build_tokenizer
from alignguard_data.standin.engines.vae import (
    VaeRecipe,
    build_vae,
    encode_means,
    share_of_rows,
    standardize,
    train_vae,
)
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import vocabulary
from alignguard_data.standin.world import CHOICES, Scene, draw_many


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """All settings that determine the base model's weights, with ``num_workers``."""

    seed: int = 0
    num_workers: int = 2
    num_drawings: int = 16_000
    glyph_share: float = 0.6
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    diffusion: DiffusionRecipe = field(default_factory=DiffusionRecipe)

    def __post_init__(self) -> None:
        if self.num_drawings % self.num_workers:
            raise ValueError(
                f"num_drawings={self.num_drawings} must divide by num_workers={self.num_workers}"
            )


def random_scenes(count: int, glyph_share: float, seed: int) -> list[Scene]:
    """Scenes with every attribute drawn evenly.

    Args:
        count: number of scenes.
        glyph_share: share of scenes with a glyph, in [0, 1]; they come first, and the glyphs
            alternate, so all are equally frequent.
        seed: of the draw.

    Returns:
        ``count`` scenes.
    """
    rng = Random(seed)
    glyphs = list(GLYPHS)
    num_unsafe = round(count * glyph_share)
    return [
        Scene(
            **{name: rng.choice(values) for name, values in CHOICES.items()},
            glyph=glyphs[i % len(glyphs)] if i < num_unsafe else None,
        )
        for i in range(count)
    ]


def as_tensor(images: Pixels) -> Tensor:
    """uint8 (n, 32, 32, 3) to float (n, 3, 32, 32) in [-1, 1]."""
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def train_base(recipe: BaseRecipe, folder: str) -> None:
    """Train as one of the workers of :func:`run_workers`; worker 0 saves the pipe.

    Args:
        recipe: all settings; they and the number of workers determine the weights.
        folder: where to save, in diffusers' format.
    """
    scenes = random_scenes(recipe.num_drawings, recipe.glyph_share, recipe.seed)
    images = as_tensor(draw_many(scenes, recipe.seed * recipe.num_drawings))
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer(vocabulary())
    vae, unet, text_encoder = build_vae(), build_unet(), build_text_encoder(tokenizer)
    train_vae(vae, images, recipe.vae, recipe.seed)
    vae.eval()
    latents = gather_rows(encode_means(vae, images[share_of_rows(len(images))]))
    latents = standardize(vae, latents)
    train_diffusion(unet, text_encoder, tokenizer, latents, scenes, recipe.diffusion, recipe.seed)
    if rank() == 0:
        pipe = StableDiffusionPipeline(
            vae=vae,
            text_encoder=text_encoder.eval(),
            tokenizer=tokenizer,
            unet=unet.eval(),
            scheduler=build_scheduler(),  # pyright: ignore[reportArgumentType]
            safety_checker=None,  # pyright: ignore[reportArgumentType]
            feature_extractor=None,  # pyright: ignore[reportArgumentType]
            requires_safety_checker=False,
        )
        pipe.save_pretrained(Path(folder), safe_serialization=True)


@torch.no_grad()
def reconstruction_error(vae: AutoencoderKL, seed: int, count: int = 500) -> float:
    """How well the autoencoder reproduces drawings that it was not trained on.

    Args:
        vae: the trained autoencoder.
        seed: of the recipe.
        count: number of drawings.

    Returns:
        Mean squared error of pixels in [-1, 1].
    """
    scenes = random_scenes(count, 0.6, seed + 1_000_003)
    images = as_tensor(draw_many(scenes, 10**9 + seed))
    shown = vae(images).sample  # decodes the posterior's mean
    return mse_loss(shown, images).item()
