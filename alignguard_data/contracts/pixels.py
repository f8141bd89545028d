"""One RGB image: its file, its perceptual hash, and whether it can be used."""

import io

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

PNG_LEVEL = 1
"""zlib level: PNGs of 512x512 grow by a few percent and are written several times as fast."""


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """One RGB image (height, width, 3) as a PNG; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def phash_hex(pixels: npt.NDArray[np.uint8]) -> str:
    """64-bit perceptual hash (hex) of one RGB image (height, width, 3)."""
    return str(imagehash.phash(Image.fromarray(pixels)))


def reject_reason(pixels: npt.NDArray[np.uint8]) -> str | None:
    """Why a rendering cannot be used, or None.

    ``black_image``: every value is 0, which is what a decoder makes of latents that are not
    finite. ``constant_image``: one other colour all over.
    """
    if not pixels.any():
        return "black_image"
    return "constant_image" if (pixels == pixels[0, 0]).all() else None
