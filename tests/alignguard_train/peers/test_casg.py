"""CASG: the category of the prompt's direction is the one that is guided away from, by row."""

import numpy as np
import torch

from alignguard_train.peers.casg import CASG, _Correction, most_aligned
from alignguard_train.peers.guided import Branches
from alignguard_train.peers.sld import SLD, level, safety_guidance
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_train.peers.made_up import CONCEPTS, drawn


def test_the_most_aligned_category_is_chosen_for_each_row():
    without = torch.full((2, 2), 5.0)
    given = without + torch.tensor([[1.0, 0.1], [0.1, 1.0]])
    # A long direction that is only half aligned does not win over a short one that is aligned.
    categories = torch.stack([without + torch.tensor([0.2, 0.0]), without + torch.tensor([0.0, 9])])
    assert most_aligned(without, given, categories).tolist() == [0, 1]
    slanted = torch.stack([without + torch.tensor([0.2, 0.0]), without + torch.tensor([50.0, 50])])
    assert most_aligned(without[:1], given[:1], slanted[:, :1]).tolist() == [0]


def test_an_opposite_direction_is_never_aligned():
    without, given = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    categories = torch.tensor([[[-9.0, 0.0]], [[0.0, 1.0]]])
    assert most_aligned(without, given, categories).tolist() == [1]


def test_guidance_is_that_of_sld_along_the_chosen_category_alone():
    draw = torch.Generator().manual_seed(1)
    without, given = (torch.randn(3, 4, 2, 2, generator=draw) for _ in range(2))
    concepts = torch.randn(5, 3, 4, 2, 2, generator=draw)
    step = Branches(without=without, given=given, concepts=concepts, done=1.0)
    chosen = most_aligned(without, given, concepts)
    own = torch.stack([concepts[k, row] for row, k in enumerate(chosen.tolist())])
    wanted = safety_guidance(without, given, own, level("max"))
    assert torch.equal(_Correction(level("max"))(step), wanted)


def test_with_one_category_it_is_sld():
    pipe, one = tiny_pipe(), CONCEPTS[:2]
    found, wanted = (drawn(peer(level="max").apply(pipe, one)) for peer in (CASG, SLD))
    assert np.array_equal(found, wanted)


def test_two_categories_are_told_apart():
    pipe = tiny_pipe()
    found, joined = (drawn(peer(level="max").apply(pipe, CONCEPTS)) for peer in (CASG, SLD))
    assert np.abs(found - joined).max() > 1e-3
