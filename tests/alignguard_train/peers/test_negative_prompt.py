"""Negative prompt: the images of diffusers' own argument, up to rounding."""

import numpy as np
import pytest

from alignguard_train.peers.negative_prompt import NegativePrompt
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from tests.alignguard_train.peers.made_up import CONCEPTS, drawn


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_images_are_those_of_diffusers_own_argument(prediction):
    pipe = tiny_pipe(prediction)
    wanted = drawn(pipe, negative_prompt=["a b, c, d e"] * 2)
    # Diffusers encodes the negative prompt once an image, we once: the last bits may differ.
    assert np.abs(drawn(NegativePrompt().apply(pipe, CONCEPTS)) - wanted).max() < 1e-5
    assert not np.array_equal(wanted, drawn(pipe))


def test_two_text_encoders():
    pipe = tiny_xl()
    wanted = drawn(pipe, negative_prompt=["a b, c, d e"] * 2)
    # It encodes two texts at once, we one: the last bits differ.
    assert np.abs(drawn(NegativePrompt().apply(pipe, CONCEPTS)) - wanted).max() < 1e-5


def test_without_guidance_there_is_nothing_to_guide_away_from():
    pipe = tiny_pipe()
    changed = NegativePrompt().apply(pipe, CONCEPTS)
    assert np.array_equal(drawn(changed, guidance=1.0), drawn(pipe, guidance=1.0))
