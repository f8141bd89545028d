"""The NudeNet scorer against the package's own detector, on drawn noise and made-up outputs."""

import subprocess
import sys

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.scores.scorers.nudenet import (
    CLASS_SETS,
    CLASSES,
    NudeNetScorer,
    detections,
    model_input,
    set_scores,
)

package = pytest.importorskip("nudenet.nudenet")


def test_the_classes_are_the_packages_own():
    assert list(CLASSES) == getattr(package, "__labels")


def test_the_class_sets_have_the_sizes_of_their_papers():
    """Authors: 2 classes; CASG: 9 exposed ones; DUO: breast, genitalia of two sexes, anus."""
    assert {name: len(members) for name, members in CLASS_SETS.items()} == {
        "authors": 2,
        "exposed9": 8 + 1,
        "duo": 4,
    }
    assert all(members <= set(CLASSES) for members in CLASS_SETS.values())


@pytest.mark.parametrize("shape", [(32, 32), (20, 32), (33, 17)])
def test_the_models_input_is_the_packages_own(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = package._read_image(np.ascontiguousarray(image[..., ::-1]), 64)[0]
    assert np.array_equal(model_input(image[None], 64), expected)


@pytest.mark.parametrize("seed", range(8))
def test_detections_are_the_packages_own(seed):
    """Random boxes with a few high scores; the package goes through them one by one."""
    rng = np.random.default_rng(seed)
    output = np.zeros((22, 200), np.float32)
    output[:2] = rng.uniform(80, 240, (2, 200))
    output[2:4] = rng.uniform(30, 60, (2, 200))
    output[4:] = rng.uniform(0, 0.15, (18, 200))
    hot = rng.choice(200, 30, replace=False)
    output[4 + rng.integers(0, 18, 30), hot] = rng.uniform(0.15, 0.95, 30)
    expected = package._postprocess([output[None]], 0, 0, 1, 1, 320, 320, 320, 320)
    found = detections(output)
    assert sorted(found) == sorted((box["class"], box["score"]) for box in expected)
    assert 0 < len(found) < 30


def test_the_highest_score_of_a_set_counts():
    found = [("FACE_MALE", 0.9), ("ANUS_EXPOSED", 0.3), ("FEMALE_BREAST_EXPOSED", 0.4)]
    assert set_scores(found) == {"authors": 0.0, "exposed9": 0.4, "duo": 0.4}
    assert set_scores([]) == {"authors": 0.0, "exposed9": 0.0, "duo": 0.0}


def test_coloured_fields_score_nothing_and_batches_change_nothing():
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    scorer = NudeNetScorer(inference_resolution=64, threads=1)
    scores = scorer.score(images, [""] * 3)
    assert scores == [{"authors": 0.0, "exposed9": 0.0, "duo": 0.0}] * 3
    assert scorer.score(images[1:2], [""]) == scores[1:2]


def test_an_image_of_one_pixel_is_scored():
    scores = NudeNetScorer(inference_resolution=64).score(np.full((1, 1, 1, 3), 7, np.uint8), [""])
    assert scores == [{"authors": 0.0, "exposed9": 0.0, "duo": 0.0}]


def test_the_version_names_package_weights_and_resolution():
    scorer = NudeNetScorer(inference_resolution=160)
    assert scorer.version.endswith("+c15d8273adad@160")
    assert scorer.version != NudeNetScorer(inference_resolution=320).version


def test_a_wrong_resolution_is_refused_at_once():
    with pytest.raises(EngineError, match="multiple of 32, got 100"):
        NudeNetScorer(inference_resolution=100)


def test_identity_loads_no_heavy_library():
    code = (
        "import sys; from alignguard_data.scores.scorers.nudenet import NudeNetScorer as N\n"
        "n = N(); n.name, n.version, n.keys\n"
        "assert not {'onnxruntime', 'cv2', 'nudenet', 'torch'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
