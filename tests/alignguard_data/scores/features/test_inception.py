"""Inception features from a small random TorchScript file with the published one's interface."""

import numpy as np
import pytest
import torch
from torch import nn

from alignguard_data.contracts.errors import EngineError
from alignguard_data.scores.features.inception import PUBLISHED, InceptionFeatures

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


class Small(nn.Module):
    """As the published file: uint8 (n, 3, h, w) in, features or logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Conv2d(3, 6, 3)
        self.output = nn.Linear(6, 4)

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        found = self.layers(img.to(torch.float32) / 255).mean(dim=[2, 3])
        return found if return_features else self.output(found)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("weights") / "inception-small.pt"
    torch.manual_seed(0)
    torch.jit.script(Small()).save(file)
    return str(file)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


def test_features_are_the_networks_own_whatever_the_batch(weights, images):
    torch.manual_seed(0)
    wanted = Small()(torch.from_numpy(images).permute(0, 3, 1, 2), return_features=True)
    found = InceptionFeatures(weights, device="cpu", batch_size=2).features(images)
    assert found.dtype == np.float32
    assert found.shape == (5, 6)
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-5)


def test_the_version_names_the_file_and_its_content(weights, tmp_path):
    version = InceptionFeatures(weights).version
    assert version.startswith("inception-small.pt@")
    assert "/" not in version
    other = tmp_path / "inception-small.pt"
    torch.jit.script(Small()).save(other)
    assert InceptionFeatures(str(other)).version != version


def test_an_absent_file_comes_with_the_line_that_gets_it(tmp_path):
    file = tmp_path / "inception.pt"
    with pytest.raises(EngineError, match="are missing: curl -o") as found:
        InceptionFeatures(str(file)).features(np.zeros((1, 8, 8, 3), np.uint8))
    assert PUBLISHED in str(found.value)


def test_another_file_is_refused_with_its_name(tmp_path, images):
    file = tmp_path / "odd.pt"
    file.write_bytes(b"no archive")
    with pytest.raises(EngineError, match=r"odd\.pt is not a TorchScript file"):
        InceptionFeatures(str(file), device="cpu").features(images)
    torch.jit.script(nn.Conv2d(3, 6, 3)).save(file)
    with pytest.raises(EngineError, match=r"odd\.pt does not give features"):
        InceptionFeatures(str(file), device="cpu").features(images)
