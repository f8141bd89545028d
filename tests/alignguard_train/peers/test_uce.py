"""UCE: the closed form against a general least squares solver, and what it changes in a pipe."""

import numpy as np
import pytest
import torch

from alignguard_train.peers.uce import EDITED, UCE, edited_weight
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_train.peers.made_up import CONCEPTS, drawn, weights


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kept", [0, 3])
def test_closed_form_is_the_least_squares_solution(kept):
    old, erased, targets = random(5, 4, seed=1), random(2, 4, seed=2), random(2, 4, seed=3)
    preserved, keep, ridge = random(kept, 4, seed=4), 0.7, 0.3
    # Every term as rows of one linear system A W' = B.
    a = torch.cat([erased, keep**0.5 * preserved, ridge**0.5 * torch.eye(4)])
    b = torch.cat([targets @ old.T, keep**0.5 * preserved @ old.T, ridge**0.5 * old.T])
    wanted = torch.linalg.lstsq(a.double(), b.double()).solution.T.float()
    found = edited_weight(old, erased, targets, preserved, keep=keep, ridge=ridge)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_with_little_ridge_a_concept_is_taken_for_its_target_and_the_kept_stay():
    old, rows = random(6, 8, seed=1), random(3, 8, seed=2)
    new = edited_weight(old, rows[:1], rows[1:2], rows[2:], keep=1.0, ridge=1e-6)
    assert torch.allclose(new @ rows[0], old @ rows[1], atol=1e-4)
    assert torch.allclose(new @ rows[2], old @ rows[2], atol=1e-4)


@pytest.mark.parametrize("tokens", ["last", "tail"])
@pytest.mark.parametrize("texts", ["name", "examples"])
def test_keys_and_values_of_cross_attention_change_and_nothing_else(tokens, texts):
    pipe = tiny_pipe()
    before, image = weights(pipe), drawn(pipe)
    changed = UCE(tokens=tokens, texts=texts, preserve=("x y",)).apply(pipe, CONCEPTS)
    after = weights(changed)
    differ = {name for name, x in after.items() if not torch.equal(x, before[name])}
    assert differ == {n for n in before if EDITED.search(n.removesuffix(".weight"))}
    assert np.array_equal(drawn(pipe), image), "the given pipe stays as it was"
    assert np.abs(drawn(changed) - image).max() > 1e-4


def test_a_ridge_of_nothing_is_refused():
    with pytest.raises(ValueError, match="ridge must be positive, got 0"):
        UCE(ridge=0)
