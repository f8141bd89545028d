"""FID and KID against formulas written out with numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from alignguard_train.evaluation.distributions import fid, kid
from alignguard_train.evaluation.judge import feature_distance


def two_sets(width: int = 6, one: int = 60, other: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(width, width))
    first = rng.normal(size=(one, width)) @ mixed
    return first.astype(np.float32), (rng.normal(size=(other, width)) + 0.5).astype(np.float32)


def test_fid_is_the_frechet_distance_of_two_gaussians():
    x, y = (part.astype(float) for part in two_sets())
    sx, sy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    wanted = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sx + sy - 2 * sqrtm(sx @ sy).real)
    assert fid(*two_sets()) == pytest.approx(wanted, rel=1e-6)


def test_fid_of_a_set_with_itself_is_nothing():
    x, _ = two_sets()
    assert fid(x, x) == pytest.approx(0, abs=1e-4)


def test_kid_is_the_unbiased_mmd_of_the_cubic_kernel():
    """Over all images of two sets of one size, one subset is the whole set."""
    x, y = (part.astype(float) for part in two_sets(one=40, other=40))
    n, width = x.shape

    def kernel(a, b):
        return (a @ b.T / width + 1) ** 3

    def off(k):
        return (k.sum() - np.trace(k)) / (n * (n - 1))

    wanted = off(kernel(x, x)) + off(kernel(y, y)) - 2 * kernel(x, y).mean()
    mean, std = kid(*two_sets(one=40, other=40), subsets=1)
    assert mean == pytest.approx(wanted, rel=1e-6)
    assert std == 0


def test_equal_seeds_draw_equal_subsets_and_leave_torchs_generator_alone():
    before = torch.random.get_rng_state()
    one, same = (kid(*two_sets(), subset_size=20, seed=1) for _ in range(2))
    assert one == same != kid(*two_sets(), subset_size=20, seed=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_feature_distance_by_hand():
    """cos((1,0),(1,1)) = 1/sqrt(2)."""
    one, other = np.array([1, 0], np.float32), np.array([1, 1], np.float32)
    assert feature_distance(one, other) == pytest.approx(1 - 0.5**0.5, abs=1e-6)
    assert feature_distance(3 * one, one) == pytest.approx(0, abs=1e-6)
    assert feature_distance(0 * one, one) == 1
    assert feature_distance(0 * one, 0 * one) == 0


@pytest.mark.parametrize("width", [3, 96, 768])
def test_equal_features_are_at_no_distance_whatever_their_last_bits(width):
    """200 vectors: 1 minus a float32 dot product is off by up to 1e-7 for some, on every CPU."""
    vectors = np.random.default_rng(width).normal(size=(200, width)).astype(np.float32)
    assert {feature_distance(one, one.copy()) for one in vectors} == {0.0}
