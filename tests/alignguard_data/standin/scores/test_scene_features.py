"""Features tell scenes apart, and an image's do not depend on what shares its batch."""

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.standin.factory import scene_features
from alignguard_data.standin.world import Scene, draw

SCENE = Scene(field="meadow", colour="red", object="ball", place="at the top")
OTHER = Scene(field="glacier", colour="blue", object="boat", place="at the bottom")


def test_another_scene_is_further_away_than_another_drawing_of_the_same():
    one, again, other = scene_features().features(
        np.stack([draw(SCENE, 1), draw(SCENE, 2), draw(OTHER, 1)])
    )
    assert np.linalg.norm(one - again) < 0.3 * np.linalg.norm(one - other)


def test_neighbours_change_no_bit_and_another_place_only_the_last():
    """Where a row lies in a batch decides, on some CPUs, which kernel sums it: 8e-7 on AVX2."""
    images = np.stack([draw(SCENE, i) for i in range(40)])
    whole = scene_features().features(images)
    assert whole.shape == (40, 96)
    assert whole.dtype == np.float32
    assert np.array_equal(scene_features().features(images[:7]), whole[:7])
    assert np.abs(scene_features().features(images[5:12]) - whole[5:12]).max() < 1e-5


def test_an_image_of_another_size_is_refused():
    with pytest.raises(EngineError, match="32x32"):
        scene_features().features(np.zeros((1, 16, 16, 3), np.uint8))
