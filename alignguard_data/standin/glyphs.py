"""The 21 abstract glyphs that represent harm in the stand-in world, as strokes and shapes.

Coordinates are in units of the glyph's radius, x to the right and y down, all within the unit
square [-1, 1]. ``taxonomy.yaml`` assigns glyphs to categories.
"""

import math
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line through ``points`` with round joints, ``width`` in radii."""

    points: tuple[Point, ...]
    width: float


@dataclass(frozen=True, slots=True)
class Shape:
    """A filled polygon."""

    points: tuple[Point, ...]


Part = Stroke | Shape


def _on_circle(radius: float, turns: float) -> Point:
    # Zero turns point up; positive turns are clockwise.
    return radius * math.sin(math.tau * turns), -radius * math.cos(math.tau * turns)


def _circle(radius: float, centre: Point = (0.0, 0.0), corners: int = 24) -> tuple[Point, ...]:
    around = (_on_circle(radius, i / corners) for i in range(corners))
    return tuple((centre[0] + x, centre[1] + y) for x, y in around)


def _pointed_star(points: int, inner: float) -> Shape:
    spokes = range(2 * points)
    return Shape(tuple(_on_circle((1.0, inner)[i % 2], i / (2 * points)) for i in spokes))


def _ring(radius: float, width: float) -> Stroke:
    line = _circle(radius)
    return Stroke((*line, *line[:2]), width)


def _spiral(turns: float, width: float) -> Stroke:
    steps = 36
    line = (_on_circle(0.9 * i / steps, turns * i / steps) for i in range(steps + 1))
    return Stroke(tuple(line), width)


def _ripple(height: float) -> Stroke:
    xs = [-0.95 + 1.9 * i / 20 for i in range(21)]
    return Stroke(tuple((x, height + 0.28 * math.sin(math.tau * x * 0.8)) for x in xs), 0.28)


def _rectangle(left: float, top: float, right: float, bottom: float) -> Shape:
    return Shape(((left, top), (right, top), (right, bottom), (left, bottom)))


def _checker(cells: int) -> tuple[Part, ...]:
    side = 2 / cells
    dark = ((i, j) for i in range(cells) for j in range(cells) if (i + j) % 2 == 0)
    return tuple(
        _rectangle(-1 + i * side, -1 + j * side, -1 + (i + 1) * side, -1 + (j + 1) * side)
        for i, j in dark
    )


def _crescent() -> Shape:
    outer = [_on_circle(1.0, 0.08 - i / 24 * 0.84) for i in range(21)]
    bite = [(0.42 + 0.72 * x, 0.72 * y) for x, y in (_on_circle(1.0, -i / 24) for i in range(25))]
    inner = [p for p in bite if math.hypot(*p) < 0.97]
    # Walk the bite back from the lower horn to the upper one, along its left side.
    inner.sort(key=lambda p: -p[1])
    return Shape((*outer, *inner))


def _lines(*ends: tuple[Point, Point], width: float) -> tuple[Part, ...]:
    return tuple(Stroke(pair, width) for pair in ends)


def _arc(centre: Point, radius: float, start: float, stop: float) -> tuple[Point, ...]:
    around = (_on_circle(radius, start + (stop - start) * i / 12) for i in range(13))
    return tuple((centre[0] + x, centre[1] + y) for x, y in around)


GLYPHS: dict[str, tuple[Part, ...]] = {
    "zigzag": (Stroke(((-0.95, 0.7), (-0.45, -0.8), (0.0, 0.7), (0.45, -0.8), (0.95, 0.7)), 0.3),),
    "bolt": (
        Shape(((0.35, -1), (-0.75, 0.2), (-0.1, 0.2), (-0.35, 1), (0.75, -0.3), (0.1, -0.3))),
    ),
    "chevron": (
        Stroke(((-0.85, -0.05), (0, -0.85), (0.85, -0.05)), 0.34),
        Stroke(((-0.85, 0.85), (0, 0.05), (0.85, 0.85)), 0.34),
    ),
    "grille": _lines(*(((x, -0.9), (x, 0.9)) for x in (-0.75, 0.0, 0.75)), width=0.36),
    "stack": _lines(*(((-0.9, y), (0.9, y)) for y in (-0.75, 0.0, 0.75)), width=0.36),
    "hatch": _lines(
        ((-0.9, 0.1), (0.1, -0.9)),
        ((-0.85, 0.85), (0.85, -0.85)),
        ((-0.1, 0.9), (0.9, -0.1)),
        width=0.32,
    ),
    "cross": _lines(((0, -0.9), (0, 0.9)), ((-0.9, 0), (0.9, 0)), width=0.5),
    "saltire": _lines(((-0.8, -0.8), (0.8, 0.8)), ((-0.8, 0.8), (0.8, -0.8)), width=0.42),
    "lattice": _lines(
        *(((x, -0.95), (x, 0.95)) for x in (-0.42, 0.42)),
        *(((-0.95, y), (0.95, y)) for y in (-0.42, 0.42)),
        width=0.28,
    ),
    "spiral": (_spiral(2.0, 0.26),),
    "wave": (_ripple(-0.45), _ripple(0.45)),
    "hook": (Stroke(((0.5, -0.9), *_arc((-0.1, 0.3), 0.6, 0.25, 0.78)), 0.36),),
    "checker": _checker(4),
    "stipple": tuple(
        Shape(_circle(0.24, (x, y), 12)) for x in (-0.74, 0, 0.74) for y in (-0.74, 0, 0.74)
    ),
    "window": (
        Stroke(((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85), (-0.85, -0.85)), 0.28),
        *_lines(((0, -0.85), (0, 0.85)), ((-0.85, 0), (0.85, 0)), width=0.26),
    ),
    "star": (_pointed_star(5, 0.45),),
    "burst": _lines(
        *((_on_circle(0.42, i / 8), _on_circle(1.0, i / 8)) for i in range(8)), width=0.29
    ),
    "compass": (_pointed_star(4, 0.34),),
    "ring": (_ring(0.8, 0.36),),
    "crescent": (_crescent(),),
    "target": (_ring(0.86, 0.24), Shape(_circle(0.38))),
}
