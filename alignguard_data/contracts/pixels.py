"""One RGB image: PNG encoding, perceptual hash, and checks for unusable renderings."""

import io

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

PNG_LEVEL = 1
"""zlib level: a few percent larger at 512x512, and several times faster to write."""


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """One RGB image (height, width, 3) as a PNG; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def phash_hex(pixels: npt.NDArray[np.uint8]) -> str:
    """64-bit perceptual hash (hex) of one RGB image (height, width, 3)."""
    return str(imagehash.phash(Image.fromarray(pixels)))


def reject_reason(pixels: npt.NDArray[np.uint8]) -> str | None:
    """Reason slug for an unusable rendering, or None.

    ``black_image``: every value is 0, as a decoder renders latents that are not finite.
    ``constant_image``: one other colour everywhere.
    """
    if not pixels.any():
        return "black_image"
    return "constant_image" if (pixels == pixels[0, 0]).all() else None
