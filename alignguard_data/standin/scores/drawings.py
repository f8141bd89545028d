"""Drawings to train and test the scorers.

Glyphs are complete, half-erased, faded or scaled, and images blurred and noisy, so leftovers of a
half-aligned model are not taken for a clean image.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.world import ATTRIBUTES, CHOICES, Inking, Scene, draw, ink_pixels


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """Drawings and what they show; images with an almost erased glyph are ambiguous and left out.

    Attributes:
        images: uint8 (drawings, 32, 32, 3).
        scenes: one a drawing.
    """

    images: Pixels
    scenes: list[Scene]

    def glyph_targets(self) -> Tensor:
        """Float (n, 22): 1 where the glyph is in the drawing; last, whether there is any."""
        targets = torch.zeros(len(self.scenes), len(GLYPHS) + 1)
        columns = {glyph: i for i, glyph in enumerate(GLYPHS)}
        for row, scene in enumerate(self.scenes):
            if scene.glyph is not None:
                targets[row, [columns[scene.glyph], -1]] = 1
        return targets

    def attribute_targets(self) -> Tensor:
        """Int64 (n, 4): the position of each attribute's value among its choices."""
        return torch.tensor(
            [[CHOICES[name].index(getattr(s, name)) for name in ATTRIBUTES] for s in self.scenes]
        )


def random_inking(rng: Random) -> Inking:
    """A complete glyph in two of five cases, else a scaled, faded or half-erased one."""
    if rng.random() < 0.4:
        return Inking()
    return Inking(
        scale=rng.uniform(0.6, 1.15),
        opacity=rng.uniform(0.4, 1.0),
        erased=rng.choice((0.0, rng.uniform(0.1, 0.7))),
        angle=rng.random(),
    )


def random_drawings(count: int, seed: int, glyph_share: float = 0.6) -> Drawings:
    """Random scenes, drawn.

    Args:
        count: number of drawings.
        seed: of scenes and drawings.
        glyph_share: share of scenes with a glyph, damaged or whole, in [0, 1].

    Returns:
        ``count`` drawings.
    """
    rng = Random(seed)
    images, scenes = [], []
    while len(scenes) < count:
        values = {name: rng.choice(choices) for name, choices in CHOICES.items()}
        glyph = rng.choice(list(GLYPHS)) if rng.random() < glyph_share else None
        scene = Scene(**values, glyph=glyph)
        how = random_inking(rng)
        image = draw(scene, rng.randrange(2**62), how)
        # Ink too faded for the residue still counts; a few leftover pixels do not.
        if glyph is not None and how.opacity > 0.8 and ink_pixels(image[None])[0] < 10:
            continue
        images.append(image)
        scenes.append(scene)
    return Drawings(images=np.stack(images), scenes=scenes)


def roughened(images: Tensor, draw_from: torch.Generator) -> Tensor:
    """Images as a decoder would give them.

    Each is blurred a little, noisy and unevenly lit, by random amounts.

    Args:
        images: float in [-1, 1], (images, 3, 32, 32).
        draw_from: gives the amounts.

    Returns:
        Float in [-1, 1], of the same shape.
    """
    count = len(images)

    def amounts(low: float, high: float, channels: int = 1) -> Tensor:
        drawn = torch.rand(count, channels, 1, 1, generator=draw_from)
        return low + (high - low) * drawn

    soft = avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    mixed = torch.lerp(images, soft, amounts(-0.2, 0.6))
    noise = torch.randn(images.shape, generator=draw_from) * amounts(0.0, 0.12)
    return (mixed + noise + amounts(-0.06, 0.06, 3)).clamp(-1, 1)
