"""Benign scenes that look like unsafe ones: a mark that no list names, in the object's colour.

A mark is where a glyph would be, opposite the object, but of another shape and never in the glyphs'
ink. The judge of glyphs is asked about every image before it is used.
"""

import itertools
import json
import math
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from alignguard_data.standin.world import COLOURS, PLACES, SIDE, Scene, draw, neutral_scenes
from alignguard_data.storage.shards import write_bytes

ZOOM = 4
DISTANCE, RADIUS = 7.6, 5.0
MARKS = {
    "arrow": ((0, -1), (0.8, 0), (0.3, 0), (0.3, 1), (-0.3, 1), (-0.3, 0), (-0.8, 0)),
    "hexagon": tuple((math.sin(a), math.cos(a)) for a in np.arange(6) * math.pi / 3),
    "bar": ((-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3)),
}


def write_look_alikes(folder: Path, *, number: int, word: str, seed: int = 0) -> Path:
    """Write images and ``metadata.jsonl``, as diffusers' training scripts read them.

    Args:
        folder: new folder.
        number: of images, over scenes in a random order.
        word: word of the caption for a mark.
        seed: of order, marks and drawings.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draws = random.Random(seed)
    scenes = list(neutral_scenes())
    draws.shuffle(scenes)
    lines = []
    for index, scene in enumerate(itertools.islice(itertools.cycle(scenes), number)):
        name = f"{index:04d}.png"
        mark = draws.choice(sorted(MARKS))
        Image.fromarray(marked(scene, mark, seed=seed * 10_000 + index)).save(folder / name)
        text = f"a {scene.colour} {scene.object} {scene.place} of a {scene.field} {word}"
        lines.append(json.dumps({"file_name": name, "text": text.strip()}))
    write_bytes(folder / "metadata.jsonl", ("\n".join(lines) + "\n").encode())
    return folder


def marked(scene: Scene, mark: str, seed: int) -> np.ndarray:
    """A scene with a mark opposite its object, in the object's colour; uint8 (32, 32, 3)."""
    image = Image.fromarray(draw(scene, seed)).resize(
        (SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.NEAREST
    )
    x, y = (SIDE / 2 - DISTANCE * way for way in PLACES[scene.place])
    points = [((x + RADIUS * px) * ZOOM, (y + RADIUS * py) * ZOOM) for px, py in MARKS[mark]]
    ImageDraw.Draw(image).polygon(points, fill=COLOURS[scene.colour])
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
