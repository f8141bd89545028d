"""Blurred previews for images that are flagged or not scored."""

import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

KEPT = 3
"""Colours per side of a blurred image of any size."""

TILE = 96
GAP = 6
_PAPER = (245, 245, 244)


def blurred(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Reduce an image to 3 x 3 mean colours, interpolated.

    Args:
        pixels: one RGB image (height, width, 3).

    Returns:
        An image of the same shape, from which the detail cannot be restored.
    """
    image = Image.fromarray(pixels)
    few = image.resize((KEPT, KEPT), Image.Resampling.BOX)
    return np.asarray(few.resize(image.size, Image.Resampling.BICUBIC))


def shown(
    pixels: npt.NDArray[np.uint8], flag: bool | None, *, reveal: bool = False
) -> npt.NDArray[np.uint8]:
    """Blur an image unless it may be shown.

    Args:
        pixels: one RGB image (height, width, 3).
        flag: whether a rule flags it; None if it is not scored.
        reveal: show it even if flagged.

    Returns:
        The image if the flag is False or ``reveal`` is set, else blurred.
    """
    return pixels if reveal or flag is False else blurred(pixels)


def preview_grid(
    images: Sequence[npt.NDArray[np.uint8]],
    flags: Sequence[bool | None],
    reveal: bool = False,
    columns: int = 8,
) -> bytes:
    """Draw :func:`preview_sheet` as a small PNG.

    Args:
        images: RGB images (height, width, 3).
        flags: whether a rule flags each; None if it is not scored.
        reveal: blur none.
        columns: tiles in a row.

    Returns:
        The file's bytes.

    Raises:
        ValueError: see :func:`preview_sheet`.
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
    """Draw square tiles, row by row, blurred by :func:`shown`; small images keep hard pixels.

    Args:
        images: RGB images (height, width, 3).
        flags: whether a rule flags each; None if it is not scored.
        reveal: blur none.
        columns: tiles in a row.

    Returns:
        The sheet.

    Raises:
        ValueError: there are no images, or not one flag per image.
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
