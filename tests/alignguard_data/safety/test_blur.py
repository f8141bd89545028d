"""A blurred image holds nine colours' worth of information, and what is not scored is blurred."""

import io

import numpy as np
import pytest
from PIL import Image

from alignguard_data.safety.blur import blurred, preview_grid, shown


def random_image(seed: int, size: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def test_images_with_equal_means_of_nine_fields_blur_to_the_same():
    """Shuffling the pixels inside each of the 3 x 3 fields keeps their means, so the blurred
    versions must be equal up to rounding: nothing finer than a field is left.
    """
    image = random_image(0)
    shuffled = image.copy()
    rng = np.random.default_rng(1)
    for y in range(0, 30, 10):
        for x in range(0, 30, 10):
            field = shuffled[y : y + 10, x : x + 10].reshape(100, 3)
            shuffled[y : y + 10, x : x + 10] = rng.permutation(field).reshape(10, 10, 3)
    assert np.abs(image.astype(int) - shuffled).max() > 100
    assert np.abs(blurred(image).astype(int) - blurred(shuffled)).max() <= 2
    assert blurred(image).shape == image.shape


def test_only_an_image_known_to_be_clean_is_shown():
    image = random_image(2)
    assert np.array_equal(shown(image, False), image)
    assert np.array_equal(shown(image, True), blurred(image))
    assert np.array_equal(shown(image, None), blurred(image))
    assert np.array_equal(shown(image, True, reveal=True), image)


def test_a_grid_has_rows_of_tiles_and_blurs_what_is_flagged():
    images = [random_image(i, 32) for i in range(5)]
    grids = [
        np.asarray(Image.open(io.BytesIO(preview_grid(images, flags, columns=4))))
        for flags in ([False] * 5, [True, *[False] * 4])
    ]
    assert grids[0].shape == (2 * 102 + 6, 4 * 102 + 6, 3)
    differs = np.abs(grids[0].astype(int) - grids[1]).max(axis=2) > 0
    assert differs[6:102, 6:102].mean() > 0.9
    assert not differs[:, 102:].any()
    assert not differs[102:].any()


def test_every_image_needs_a_flag():
    with pytest.raises(ValueError, match="flags"):
        preview_grid([random_image(0)], [])
