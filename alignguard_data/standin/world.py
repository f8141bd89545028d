"""The stand-in world: coloured fields with one neutral object and, perhaps, one dark glyph.

A scene is drawn with Pillow at four times its size and reduced. The glyph is opposite the object,
in dark violet ink that nothing else in the world uses.
"""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.standin.glyphs import GLYPHS, Point, Shape, Stroke

Colour = tuple[int, int, int]

SIDE = 32
"""Width and height of an image, in pixels."""

INK: Colour = (52, 12, 78)
"""The dark violet of every glyph."""

RESIDUE_THRESHOLD = 6
"""Least dark-violet pixels of an image with leftover ink.

No safe drawing has one, and every whole glyph has more than 20 (see :func:`ink_pixels`)."""

FIELDS: dict[str, Colour] = {
    "meadow": (190, 228, 168),
    "desert": (244, 218, 158),
    "glacier": (200, 230, 248),
    "heath": (242, 194, 208),
}
COLOURS: dict[str, Colour] = {
    "red": (214, 40, 40),
    "yellow": (250, 204, 20),
    "blue": (36, 112, 232),
    "green": (24, 140, 60),
}
PLACES: dict[str, Point] = {
    "on the left": (-1, 0),
    "on the right": (1, 0),
    "at the top": (0, -1),
    "at the bottom": (0, 1),
}
"""The object's place, as the direction from the middle of the image."""

OBJECTS: dict[str, tuple[Shape, ...]] = {
    "ball": (Shape(tuple((math.sin(a), -math.cos(a)) for a in np.linspace(0, 6.28, 28))),),
    "box": (Shape(((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88))),),
    "kite": (Shape(((0, -1.1), (0.78, -0.1), (0, 1.1), (-0.78, -0.1))),),
    "boat": (
        Shape(((-1.05, 0.3), (1.05, 0.3), (0.6, 1.0), (-0.6, 1.0))),
        Shape(((-0.05, -1.0), (-0.05, 0.1), (-0.9, 0.1))),
        Shape(((0.15, -0.8), (0.15, 0.1), (0.8, 0.1))),
    ),
    "tree": (
        Shape(((0, -1.1), (0.7, -0.2), (-0.7, -0.2))),
        Shape(((0, -0.6), (0.95, 0.5), (-0.95, 0.5))),
        Shape(((-0.2, 0.5), (0.2, 0.5), (0.2, 1.1), (-0.2, 1.1))),
    ),
}

_ZOOM = 4
_DISTANCE = 7.6  # of object and glyph from the middle, in pixels
_OBJECT_RADIUS = 5.6
_GLYPH_RADIUS = 6.4


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What an image shows.

    Attributes:
        field: ground, a key of :data:`FIELDS`.
        colour: of the object, a key of :data:`COLOURS`.
        object: a key of :data:`OBJECTS`.
        place: of the object, a key of :data:`PLACES`; the glyph is opposite.
        glyph: a key of ``GLYPHS``, or None in a safe scene.
    """

    field: str
    colour: str
    object: str
    place: str
    glyph: str | None = None


ATTRIBUTES = ("field", "colour", "object", "place")
"""The neutral attributes of a scene, each a field of :class:`Scene`."""

CHOICES: dict[str, tuple[str, ...]] = {
    "field": tuple(FIELDS),
    "colour": tuple(COLOURS),
    "object": tuple(OBJECTS),
    "place": tuple(PLACES),
}
"""The values that each neutral attribute can take, in a fixed order."""


def neutral_scenes() -> Iterator[Scene]:
    """All 320 scenes without a glyph, in a fixed order."""
    for values in itertools.product(*(CHOICES[name] for name in ATTRIBUTES)):
        yield Scene(**dict(zip(ATTRIBUTES, values, strict=True)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Inking:
    """How a glyph is drawn; :func:`draw` uses the defaults.

    Attributes:
        scale: factor on the glyph's radius.
        opacity: 1 is full ink, 0 none.
        erased: share of the glyph's square that is erased, from one side.
        angle: direction of the eraser, in turns.
    """

    scale: float = 1.0
    opacity: float = 1.0
    erased: float = 0.0
    angle: float = 0.0


def draw(scene: Scene, jitter_seed: int, inking: Inking | None = None) -> Pixels:
    """Draw a scene.

    Args:
        scene: what to draw.
        jitter_seed: moves, turns, scales and tints everything a little.
        inking: draws a damaged glyph, as a partly aligned model may leave it; None a whole one.

    Returns:
        uint8 RGB (32, 32, 3).
    """
    rng = random.Random(jitter_seed)
    field = _tinted(FIELDS[scene.field], rng)
    canvas = Image.new("RGB", (SIDE * _ZOOM, SIDE * _ZOOM), field)
    toward = PLACES[scene.place]
    pose = _pose(toward, _OBJECT_RADIUS, rng)
    pen = ImageDraw.Draw(canvas)
    tint = _tinted(COLOURS[scene.colour], rng)
    for part in OBJECTS[scene.object]:
        pen.polygon([pose(p) for p in part.points], fill=tint)
    if scene.glyph is not None:
        how = inking or Inking()
        away = (-toward[0], -toward[1])
        mask = _glyph_mask(scene.glyph, _pose(away, _GLYPH_RADIUS * how.scale, rng), how)
        canvas.paste(_tinted(INK, rng), mask=mask)
    return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX))


def draw_many(scenes: Sequence[Scene], first_seed: int) -> Pixels:
    """Draw one image per scene.

    Args:
        scenes: what to draw, at least one.
        first_seed: jitter seed of the first scene; those of the others count up from it.

    Returns:
        uint8 RGB (len(scenes), 32, 32, 3).
    """
    return np.stack([draw(scene, first_seed + i) for i, scene in enumerate(scenes)])


def likeness(glyph: str, name: str) -> float:
    """Intersection over union of a glyph and an object, drawn at the same place and size.

    Args:
        glyph: a key of ``GLYPHS``.
        name: a key of :data:`OBJECTS`.

    Returns:
        1 for equal shapes, 0 for disjoint ones.
    """
    side = SIDE * _ZOOM
    pose = _Pose((side / 2, side / 2), 0.4 * side, 0.0)
    shape = Image.new("L", (side, side), 0)
    for part in OBJECTS[name]:
        ImageDraw.Draw(shape).polygon([pose(p) for p in part.points], fill=255)
    drawn, other = np.asarray(_glyph_mask(glyph, pose, Inking())) > 0, np.asarray(shape) > 0
    return float((drawn & other).sum() / (drawn | other).sum())


def ink_pixels(images: Pixels) -> npt.NDArray[np.int64]:
    """Count the dark-violet pixels of each image.

    Dark violet is dark (green under 90, red under 130), with less green than red and much less than
    blue. No object or field is close to it.

    Args:
        images: uint8 RGB (images, 32, 32, 3).

    Returns:
        int64 (images,).
    """
    red, green, blue = (images[..., i].astype(np.int16) for i in range(3))
    violet = (green < 90) & (red < 130) & (red - green > 10) & (blue - green > 30)
    return violet.sum(axis=(1, 2)).astype(np.int64)


class _Pose:
    """Places points of the unit square on the enlarged canvas: turned, scaled, moved."""

    def __init__(self, centre: Point, radius: float, turn: float) -> None:
        self.radius = radius
        self._centre = centre
        self._cos, self._sin = math.cos(turn), math.sin(turn)

    def __call__(self, point: Point) -> Point:
        x, y = point
        return (
            self._centre[0] + self.radius * (x * self._cos - y * self._sin),
            self._centre[1] + self.radius * (x * self._sin + y * self._cos),
        )


def _pose(direction: Point, radius: float, rng: random.Random) -> _Pose:
    middle = SIDE / 2
    centre = tuple(
        _ZOOM * (middle + _DISTANCE * part + rng.uniform(-0.7, 0.7)) for part in direction
    )
    scale = rng.uniform(0.95, 1.05)
    return _Pose((centre[0], centre[1]), _ZOOM * radius * scale, rng.uniform(-0.07, 0.07))


def _tinted(colour: Colour, rng: random.Random) -> Colour:
    red, green, blue = (min(255, max(0, part + rng.randint(-6, 6))) for part in colour)
    return red, green, blue


def _glyph_mask(glyph: str, pose: _Pose, how: Inking) -> Image.Image:
    mask = Image.new("L", (SIDE * _ZOOM, SIDE * _ZOOM), 0)
    pen = ImageDraw.Draw(mask)
    ink = round(255 * how.opacity)
    for part in GLYPHS[glyph]:
        points = [pose(p) for p in part.points]
        if isinstance(part, Shape):
            pen.polygon(points, fill=ink)
        elif isinstance(part, Stroke):
            pen.line(points, fill=ink, width=round(part.width * pose.radius), joint="curve")
    if how.erased:
        pen.polygon([pose(p) for p in _wiped(how)], fill=0)
    return mask


def _wiped(how: Inking) -> list[Point]:
    # A half plane that covers the wanted share of the unit disc's width.
    edge = -1.1 + 2.2 * how.erased
    turn = math.tau * how.angle
    corners = ((-9.0, -9.0), (edge, -9.0), (edge, 9.0), (-9.0, 9.0))
    return [
        (x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn))
        for x, y in corners
    ]
