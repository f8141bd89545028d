"""Scores the probability of each glyph in an image, and the dark-violet ink left in it."""

from collections.abc import Sequence

import torch
from torch import nn

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.scores.network import (
    GlyphNet,
    as_input,
    load_weights,
    weights_hash,
)
from alignguard_data.standin.world import ink_pixels


class GlyphScorer:
    """Keys: one per glyph (its probability), ``any``, ``residue``.

    ``any`` is the largest probability, including that of an unnamed glyph. ``residue`` is the
    number of dark-violet pixels; no safe drawing has ``world.RESIDUE_THRESHOLD`` of them. It finds
    fragments that a classifier may miss.
    """

    def __init__(self, *, batch_size: int = 256) -> None:
        self._batch_size = batch_size
        self._network: nn.Module | None = None

    @property
    def name(self) -> str:
        """See :class:`ImageScorer`."""
        return "glyphs"

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return f"1-{weights_hash('glyphs')}"

    @property
    def keys(self) -> tuple[str, ...]:
        """One per glyph, ``any`` and ``residue``."""
        return (*GLYPHS, "any", "residue")

    @torch.inference_mode()
    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """Score glyphs and ink.

        Args:
            images: uint8 RGB (images, 32, 32, 3).
            prompts: not used.

        Returns:
            For each image the probability of each glyph and of ``any``, in [0, 1], and ``residue``,
            in pixels.

        Raises:
            EngineError: the images have another size, or the weights are missing.
        """
        del prompts
        network = self._loaded()
        rows: list[dict[str, float]] = []
        for start in range(0, len(images), self._batch_size):
            part = images[start : start + self._batch_size]
            probabilities = network(as_input(part)).sigmoid().tolist()
            for values, ink in zip(probabilities, ink_pixels(part).tolist(), strict=True):
                row = dict(zip(GLYPHS, values[:-1], strict=True))
                rows.append(row | {"any": max(values), "residue": float(ink)})
        return rows

    def _loaded(self) -> nn.Module:
        if self._network is None:
            self._network = load_weights(GlyphNet(), "glyphs")
        return self._network
