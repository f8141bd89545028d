"""One RGB image: PNG encoding, perceptual hash, and checks for unusable renderings."""

import io

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

PNG_LEVEL = 1
"""zlib level: a few percent larger at 512x512, and several times faster to write."""


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode an image as PNG; equal pixels give equal bytes.

    Args:
        pixels: one RGB image (height, width, 3).

    Returns:
        The file's bytes.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def phash_hex(pixels: npt.NDArray[np.uint8]) -> str:
    """Hash an image so that similar images have similar hashes.

    Args:
        pixels: one RGB image (height, width, 3).

    Returns:
        64-bit perceptual hash (hex).
    """
    return str(imagehash.phash(Image.fromarray(pixels)))


def reject_reason(pixels: npt.NDArray[np.uint8]) -> str | None:
    """Check whether a rendering is unusable.

    Args:
        pixels: one RGB image (height, width, 3).

    Returns:
        ``black_image`` (every value is 0, as a decoder renders latents that are not finite),
        ``constant_image`` (one other colour everywhere), or None if it is usable.
    """
    if not pixels.any():
        return "black_image"
    return "constant_image" if (pixels == pixels[0, 0]).all() else None
