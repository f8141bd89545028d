"""What the tests of the generator render, and when two renderings are the same."""

import numpy as np

from alignguard_data.contracts.sampling import Sampling

SAMPLING = Sampling(num_inference_steps=4, guidance_scale=3.0, width=16, height=16, batch_size=4)
PROMPTS = [f"a field {n}" for n in "abcdefg"]
SEEDS = [2**62 + n for n in range(7)]


def assert_same_picture(one, other):
    """Same but for rounding: no value more than one of 255 off, and fewer than one in a hundred."""
    difference = np.abs(one.astype(int) - other)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
