"""An image generator for tests: each image is a function of its prompt and seed."""

import hashlib
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from alignguard_data.contracts.protocols import Pixels, Progress
from alignguard_data.contracts.sampling import Sampling

SAMPLING = Sampling(num_inference_steps=2, guidance_scale=1.0, width=16, height=16, batch_size=4)


class DrawnImages:
    """Random pixels of a prompt and seed; can stop after so many images, as a killed run does.

    With an adapter the red channel is dimmed by the length of the adapter's file name.
    """

    model_id = "drawn"
    revision = "1"
    images_per_call = 6
    sampling = SAMPLING

    def __init__(self, *, stop_after: int | None = None, black: str = "", flat: str = "") -> None:
        self.rendered: list[tuple[str, int]] = []
        self._stop_after, self._black, self._flat = stop_after, black, flat
        self._adapter: Path | None = None

    def render(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress | None = None
    ) -> Pixels:
        if self._stop_after is not None and len(self.rendered) >= self._stop_after:
            raise KeyboardInterrupt
        self.rendered += zip(prompts, seeds, strict=True)
        if progress:
            progress(len(prompts))
        return np.stack([self._draw(p, s) for p, s in zip(prompts, seeds, strict=True)])

    @contextmanager
    def adapted(self, adapter: Path | None):
        self._adapter = adapter
        yield
        self._adapter = None

    @contextmanager
    def sampled(self, sampling: Sampling):
        before, self.sampling = self.sampling, sampling
        yield
        self.sampling = before

    def _draw(self, prompt: str, seed: int) -> np.ndarray:
        shape = (self.sampling.height, self.sampling.width, 3)
        if self._black and self._black in prompt:
            return np.zeros(shape, np.uint8)
        if self._flat and self._flat in prompt:
            return np.full(shape, 77, np.uint8)
        digest = hashlib.blake2b(f"{prompt}/{seed}".encode(), digest_size=8).digest()
        image = np.random.default_rng(int.from_bytes(digest)).integers(0, 256, shape, np.uint8)
        if self._adapter:
            image[..., 0] //= 2
        return image
