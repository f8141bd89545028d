"""The two small convolutional networks of the stand-in's scorers, and their weights on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Pixels
from alignguard_data.engines.weights import file_revision
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.world import CHOICES, SIDE

WEIGHTS_FOLDER = Path(__file__).parent.parent / "checkpoints" / "scorers"


class GlyphNet(nn.Module):
    """Multi-label over glyphs: (n, 3, 32, 32) in [-1, 1] to logits (n, 22).

    The last logit is for any glyph at all, since a fragment can fit several glyphs. Global max
    pooling finds a glyph anywhere in the image.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_block(3, 24), nn.MaxPool2d(2), *_block(24, 48), *_block(48, 48), nn.MaxPool2d(2),
            *_block(48, 96), *_block(96, 96),
        )  # fmt: skip
        self.head = nn.Linear(96, len(GLYPHS) + 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of ``images`` (n, 3, h, w)."""
        return self.head(self.trunk(images).amax(dim=(2, 3)))


class SceneNet(nn.Module):
    """Reads the neutral attributes: (n, 3, 32, 32) in [-1, 1] to one logit vector per attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [len(values) for values in CHOICES.values()]
        self.trunk = nn.Sequential(
            *_block(3, 24), nn.MaxPool2d(2), *_block(24, 32), nn.MaxPool2d(2), *_block(32, 48),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48 * 16, 96), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(96, sum(self.sizes))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits of each attribute, (n, values), of ``images`` (n, 3, h, w)."""
        return self.head(self.trunk(images)).split(self.sizes, dim=1)


def as_input(images: Pixels) -> Tensor:
    """Pixels as the networks' input.

    Args:
        images: uint8 RGB (images, 32, 32, 3).

    Returns:
        Float in [-1, 1], (images, 3, 32, 32).

    Raises:
        EngineError: the images are not of the stand-in's size.
    """
    if images.shape[1:] != (SIDE, SIDE, 3):
        raise EngineError(
            f"the stand-in's scorers read images of {SIDE}x{SIDE}x3, got {images.shape[1:]}"
        )
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def load_weights(network: nn.Module, name: str) -> nn.Module:
    """Load shipped weights into a network.

    Args:
        network: modified.
        name: of the weights, ``glyphs`` or ``scene``.

    Returns:
        The network, frozen and in evaluation mode.

    Raises:
        EngineError: the weights are missing.
    """
    network.load_state_dict(load_file(_file(name)))
    return network.eval().requires_grad_(False)


class Reader:
    """A network with its shipped weights, which load at the first image, over batches of images.

    Args:
        make: builds the network.
        weights: name of the weights.
        batch_size: images at a time.
    """

    def __init__(self, make: Callable[[], nn.Module], weights: str, batch_size: int) -> None:
        self._make, self._weights, self._batch_size = make, weights, batch_size
        self._network: nn.Module | None = None

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return f"1-{weights_hash(self._weights)}"

    def read(self, images: Pixels) -> list[tuple[Pixels, Any]]:
        """Read images in batches.

        Args:
            images: uint8 RGB (images, 32, 32, 3).

        Returns:
            Every batch with the network's logits.

        Raises:
            EngineError: the images have another size, or the weights are missing.
        """
        if self._network is None:
            self._network = load_weights(self._make(), self._weights)
        starts = range(0, len(images), self._batch_size)
        parts = [images[start : start + self._batch_size] for start in starts]
        with torch.inference_mode():
            return [(part, self._network(as_input(part))) for part in parts]


def weights_hash(name: str) -> str:
    """First 12 hex digits of the sha256 of the shipped weights ``name``.

    Each score row has it, so it is cached until the file changes.
    """
    return file_revision(_file(name))[:12]


def _file(name: str) -> Path:
    path = WEIGHTS_FOLDER / f"{name}.safetensors"
    if not path.is_file():
        raise EngineError(
            f"no scorer weights at {path}; train them with "
            "python -m alignguard_data.standin.scores.train"
        )
    return path


def _block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )
