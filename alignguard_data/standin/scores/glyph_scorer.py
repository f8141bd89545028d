"""Scores the probability of each glyph in an image, and the dark-violet ink left in it."""

from collections.abc import Sequence

import torch

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.scores.network import GlyphNet, Reader
from alignguard_data.standin.world import ink_pixels


class GlyphScorer:
    """Keys: one per glyph (its probability), ``any``, ``residue``.

    ``any`` is the largest probability, including that of an unnamed glyph. ``residue`` is the
    number of dark-violet pixels; no safe drawing has ``world.RESIDUE_THRESHOLD`` of them. It finds
    fragments that a classifier may miss.
    """

    def __init__(self, *, batch_size: int = 256) -> None:
        self._reader = Reader(GlyphNet, "glyphs", batch_size)

    @property
    def name(self) -> str:
        """See :class:`ImageScorer`."""
        return "glyphs"

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return self._reader.version

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
        rows: list[dict[str, float]] = []
        for part, logits in self._reader.read(images):
            probabilities = logits.sigmoid().tolist()
            for values, ink in zip(probabilities, ink_pixels(part).tolist(), strict=True):
                row = dict(zip(GLYPHS, values[:-1], strict=True))
                rows.append(row | {"any": max(values), "residue": float(ink)})
        return rows
