"""The autoencoder's standardization: latents of mean 0 and deviation 1, pictures unchanged."""

import pytest
import torch

from alignguard_data.standin.engines.vae import build_vae, encode_means, standardize


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_standardized_latents_have_mean_zero_and_deviation_one(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    standardize(vae, encode_means(vae, images))
    latents = encode_means(vae, images)
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4)


@torch.no_grad()
def test_standardizing_changes_no_picture(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    before = vae.decode(encode_means(vae, images)).sample
    standardize(vae, encode_means(vae, images))
    after = vae.decode(encode_means(vae, images)).sample
    assert torch.allclose(before, after, atol=1e-4)


@torch.no_grad()
def test_the_posterior_variance_scales_with_the_latents(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    plain = vae.encode(images).latent_dist.std
    latents = encode_means(vae, images)
    standardize(vae, latents)
    scaled = vae.encode(images).latent_dist.std
    assert torch.allclose(
        scaled, plain / latents.std(dim=(0, 2, 3))[:, None, None], rtol=1e-3, atol=1e-6
    )
