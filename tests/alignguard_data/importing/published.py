"""Small made-up files in the shape of the published CoProV2, with harmless placeholder prompts."""

import csv
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from alignguard_data.importing.coprov2.room import Imported, import_coprov2
from alignguard_data.storage.paths import DataRoot

Line = tuple[str, str, str]
"""Prompt, image, category."""


def pair(number: int, category: str = "hate", thing: str | None = None) -> list[Line]:
    """Both rows of one pair."""
    scene = thing or f"park number {number * 7919}"
    return [
        (f"a bar in a {scene}", f"u_idx_{number}_0.jpg", category),
        (f"a {scene}", f"s_idx_{number}_0.jpg", category),
    ]


def prompt(text: str, category: str = "hate", image: str = "") -> Line:
    """One row of a test file."""
    return (text, image, category)


def write_csv(path: Path, rows: list[Line], header: Line = ("prompt", "image", "category")) -> Path:
    """A CSV file of these rows."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])
    return path


def write_images(folder: Path, rows: list[Line], side: int = 24) -> Path:
    """A textured JPEG for every image that the rows name."""
    folder.mkdir(exist_ok=True)
    for name in {image for _, image, _ in rows if image}:
        noise = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (side, side, 3))
        Image.fromarray(noise.astype(np.uint8)).save(folder / name, format="JPEG")
    return folder


class Published:
    """A folder of files, and the data root they are imported into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = DataRoot(root=folder / "data", profile="tiny")

    def bring(self, train: list[Line], test: list[Line] | None = None, **options) -> Imported:
        """Write both files and import them."""
        files = [write_csv(self.folder / "train.csv", train)]
        if test is not None:
            files.append(write_csv(self.folder / "test.csv", test))
        return import_coprov2(self.data, files, **options)
