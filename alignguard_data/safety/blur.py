"""Previews in which nothing can be recognised: for whatever is flagged, or was never scored."""

import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

KEPT = 3
"""A blurred image holds so many colours a side, whatever its size was."""

TILE = 96
GAP = 6
_PAPER = (245, 245, 244)


def blurred(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """An RGB image (height, width, 3) of which only 3 x 3 mean colours are left, smoothly joined.

    The detail is gone from the data, not hidden: there is nothing to sharpen.
    """
    image = Image.fromarray(pixels)
    few = image.resize((KEPT, KEPT), Image.Resampling.BOX)
    return np.asarray(few.resize(image.size, Image.Resampling.BICUBIC))


def shown(
    pixels: npt.NDArray[np.uint8], flag: bool | None, *, reveal: bool = False
) -> npt.NDArray[np.uint8]:
    """The image itself if ``flag`` is False or on ``reveal``, else blurred (None: not scored)."""
    return pixels if reveal or flag is False else blurred(pixels)


def preview_grid(
    images: Sequence[npt.NDArray[np.uint8]],
    flags: Sequence[bool | None],
    reveal: bool = False,
    columns: int = 8,
) -> bytes:
    """:func:`preview_sheet` as a small PNG.

    Raises:
        ValueError: as of that.
    """
    buffer = io.BytesIO()
    sheet = preview_sheet(images, flags, reveal, columns)
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def preview_sheet(
    images: Sequence[npt.NDArray[np.uint8]],
    flags: Sequence[bool | None],
    reveal: bool = False,
    columns: int = 8,
) -> Image.Image:
    """Square tiles, row by row, blurred by :func:`shown`; small images keep hard pixels.

    Raises:
        ValueError: there is no image, or not one flag an image.
    """
    if len(images) == 0 or len(images) != len(flags):
        raise ValueError(f"{len(images)} images and {len(flags)} flags: need one each, at least 1")
    columns = min(columns, len(images))
    step = TILE + GAP
    size = (columns * step + GAP, math.ceil(len(images) / columns) * step + GAP)
    sheet = Image.new("RGB", size, _PAPER)
    for i, (pixels, flag) in enumerate(zip(images, flags, strict=True)):
        place = (GAP + i % columns * step, GAP + i // columns * step)
        sheet.paste(_tile(shown(pixels, flag, reveal=reveal)), place)
    return sheet


def _tile(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(pixels)
    how = Image.Resampling.NEAREST if max(image.size) < TILE else Image.Resampling.LANCZOS
    return image.resize((TILE, TILE), how)
