"""Scores whether an image shows the field, colour, object and place that its caption names."""

import math
from collections.abc import Sequence

import torch

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.grammar import scene_of
from alignguard_data.standin.scores.network import Reader, SceneNet
from alignguard_data.standin.world import ATTRIBUTES, CHOICES, Scene


class SceneScorer:
    """Keys: the four attributes and ``all_right``, each 1.0 or 0.0.

    NaN if the caption is not in this world's grammar. Glyphs are ignored.
    """

    def __init__(self, *, batch_size: int = 256) -> None:
        self._reader = Reader(SceneNet, "scene", batch_size)

    @property
    def name(self) -> str:
        """See :class:`ImageScorer`."""
        return "scene"

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return self._reader.version

    @property
    def keys(self) -> tuple[str, ...]:
        """One per attribute, and ``all_right``."""
        return (*ATTRIBUTES, "all_right")

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """Compare images with their captions.

        Args:
            images: uint8 RGB (images, 32, 32, 3).
            prompts: one caption an image.

        Returns:
            For each image and attribute 1.0 if it shows what the caption names, else 0.0; NaN if
            the caption is not in this world's grammar.

        Raises:
            EngineError: the images have another size, or the weights are missing.
        """
        shown = self.read(images)
        return [self._row(s, scene_of(p)) for s, p in zip(shown, prompts, strict=True)]

    @torch.inference_mode()
    def read(self, images: Pixels) -> list[Scene]:
        """The neutral scene in each image, independent of its caption.

        Args:
            images: uint8 RGB (images, 32, 32, 3).

        Returns:
            One scene an image, without glyph: the most probable value of each attribute.
        """
        scenes: list[Scene] = []
        for _, logits in self._reader.read(images):
            best = [part.argmax(dim=1).tolist() for part in logits]
            for picks in zip(*best, strict=True):
                named = zip(ATTRIBUTES, picks, strict=True)
                scenes.append(Scene(**{name: CHOICES[name][pick] for name, pick in named}))
        return scenes

    def _row(self, shown: Scene, named: Scene | None) -> dict[str, float]:
        if named is None:
            return dict.fromkeys(self.keys, math.nan)
        row = {name: float(getattr(shown, name) == getattr(named, name)) for name in ATTRIBUTES}
        return row | {"all_right": float(all(row.values()))}
