"""The original FID features: Inception of 2015-12-05, if its file is given.

The file is the TorchScript that clean-fid and StyleGAN use (``inception-2015-12-05.pt``, ported
from TensorFlow by NVIDIA): network, weights, and FID's resizing to 299 x 299. It needs no
torchvision. TorchScript is code, so get it only from its publisher.
"""

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Pixels
from alignguard_data.engines.clip_model import Vectors
from alignguard_data.engines.device import device_of
from alignguard_data.storage.shards import sha256_file

PUBLISHED = (
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
    "inception-2015-12-05.pt"
)


def download_line(file: Path) -> str:
    """The command to download the file."""
    return f"curl -o {file} {PUBLISHED}"


class InceptionFeatures:
    """A ``FeatureExtractor``: the last pooling layer, 2,048 wide.

    Args:
        weights: the TorchScript file.
        device: ``auto`` (a GPU where there is one) or a torch device.
        batch_size: images per forward pass.
    """

    name = "inception"

    def __init__(self, weights: str, device: str = "auto", batch_size: int = 32) -> None:
        self._file, self._device, self._batch_size = Path(weights), device, batch_size

    @cached_property
    def version(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Name and hash of the file.

        Returns:
            ``<file name>@<12 hex digits>``.

        Raises:
            EngineError: the file is missing.
        """
        self._refuse_absence()
        return f"{self._file.name}@{sha256_file(self._file)[:12]}"

    def features(self, images: Pixels) -> Vectors:
        """Activations of the last pooling layer.

        Args:
            images: uint8 RGB (images, height, width, 3), of any size; at least one.

        Returns:
            Float32 (images, 2048).

        Raises:
            EngineError: the file is missing, not TorchScript, or of another network.
        """
        import torch

        network, device = self._network
        rows = []
        for start in range(0, len(images), self._batch_size):
            pixels = torch.from_numpy(images[start : start + self._batch_size])
            with torch.no_grad():
                try:
                    found = network(pixels.permute(0, 3, 1, 2).to(device), return_features=True)
                except RuntimeError as error:  # raised by TorchScript and by torch
                    raise EngineError(f"{self._file} does not give features: {error}") from error
            rows.append(found.reshape(len(pixels), -1).float().cpu().numpy())
        return np.concatenate(rows)

    @cached_property
    def _network(self) -> tuple[Any, str]:
        import torch

        self._refuse_absence()
        device = device_of(self._device)
        try:
            with warnings.catch_warnings():
                # Other published forms of the network need its class definition.
                warnings.simplefilter("ignore", DeprecationWarning)
                return torch.jit.load(self._file, map_location=device).eval(), device
        except RuntimeError as error:
            raise EngineError(f"{self._file} is not a TorchScript file: {error}") from error

    def _refuse_absence(self) -> None:
        if not self._file.is_file():
            raise EngineError(
                f"Inception's weights {self._file} are missing: {download_line(self._file)}"
            )
