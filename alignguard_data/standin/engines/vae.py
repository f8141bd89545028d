"""The stand-in's autoencoder: 32x32 pixels to 8x8x4 latents of mean 0 and deviation 1.

The pipeline has a single scaling factor, so each channel's mean and deviation are folded into the
1x1 convolutions on both sides of the latent.
"""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm import trange

from alignguard_data.standin.engines.parallel import average_gradients, num_workers, rank

LATENT_CHANNELS = 4


@dataclass(frozen=True, kw_only=True)
class VaeRecipe:
    """How the autoencoder is trained; ``batch`` is per worker."""

    steps: int = 2500
    batch: int = 16
    peak_lr: float = 3e-3
    l1_weight: float = 0.1
    kl_weight: float = 1e-5


def build_vae() -> AutoencoderKL:
    """An untrained autoencoder of about 0.23 M parameters, four pixels per latent."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * 3,  # pyright: ignore[reportArgumentType]
        block_out_channels=(16, 32, 32),  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=32,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def train_vae(vae: AutoencoderKL, images: Tensor, recipe: VaeRecipe, seed: int) -> None:
    """Train in place on squared error, absolute error and the KL divergence.

    Args:
        vae: trained.
        images: float in [-1, 1], (drawings, 3, 32, 32).
        recipe: steps, batch per worker, weights of the terms.
        seed: of the draws; each worker draws its own.
    """
    draw = torch.Generator().manual_seed(seed * 1000 + rank())
    torch.manual_seed(seed * 1000 + rank())
    optimizer = torch.optim.AdamW(vae.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_lr, total_steps=recipe.steps, pct_start=0.1
    )
    bar = trange(recipe.steps, desc="autoencoder", disable=rank() > 0)
    for _ in bar:
        rows = torch.randint(len(images), (recipe.batch,), generator=draw)
        image = images[rows]
        posterior = vae.encode(image).latent_dist  # pyright: ignore[reportAttributeAccessIssue]
        shown = vae.decode(posterior.sample()).sample  # pyright: ignore[reportAttributeAccessIssue]
        error = mse_loss(shown, image)
        loss = error + recipe.l1_weight * (shown - image).abs().mean()
        loss = loss + recipe.kl_weight * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        average_gradients(vae.parameters())
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(mse=f"{error.item():.4f}", refresh=False)


@torch.no_grad()
def encode_means(vae: AutoencoderKL, images: Tensor, batch: int = 250) -> Tensor:
    """Posterior means, without gradient.

    Args:
        vae: the autoencoder.
        images: float in [-1, 1], (images, 3, 32, 32).
        batch: images encoded at once.

    Returns:
        Float (images, 4, 8, 8).
    """
    parts = [
        vae.encode(part).latent_dist.mean  # pyright: ignore[reportAttributeAccessIssue]
        for part in images.split(batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def standardize(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Fold the mean and deviation of each latent channel into the autoencoder.

    The reconstruction of an image does not change.

    Args:
        vae: the convolutions on both sides of its latent are modified.
        latents: its posterior means, float (images, 4, 8, 8).

    Returns:
        The latents with mean 0 and deviation 1 in each channel, of the same shape.
    """
    mean = latents.mean(dim=(0, 2, 3))
    deviation = latents.std(dim=(0, 2, 3))
    weight, bias = _parameters(vae.quant_conv)
    # Rows 0-3 of the inward convolution give the mean, rows 4-7 the log variance.
    bias[:LATENT_CHANNELS] = (bias[:LATENT_CHANNELS] - mean) / deviation
    weight[:LATENT_CHANNELS] /= deviation[:, None, None, None]
    bias[LATENT_CHANNELS:] -= 2 * deviation.log()
    weight, bias = _parameters(vae.post_quant_conv)
    bias += weight[:, :, 0, 0] @ mean
    weight *= deviation[None, :, None, None]
    return (latents - mean[:, None, None]) / deviation[:, None, None]


def _parameters(convolution: nn.Conv2d | None) -> tuple[Tensor, Tensor]:
    assert convolution is not None
    assert convolution.bias is not None
    return convolution.weight, convolution.bias


def share_of_rows(total: int) -> slice:
    """The rows of this worker if ``total`` rows are divided evenly."""
    each = total // num_workers()
    return slice(rank() * each, (rank() + 1) * each)
