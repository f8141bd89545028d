"""Tokens as rows of weights over the vocabulary, which gradients move."""

from collections.abc import Sequence

import torch
from torch import Tensor

from alignguard_train.robustness.protocol import Vocabulary


def one_hot(vocabulary: Vocabulary, ids: Sequence[int]) -> Tensor:
    """Write tokens as weights.

    Args:
        vocabulary: its ordinary ids are the columns.
        ids: ordinary ids.

    Returns:
        Weights (len(ids), len(vocabulary.ordinary)), float32.

    Raises:
        KeyError: an id is not an ordinary one.
    """
    column = {one: i for i, one in enumerate(vocabulary.ordinary)}
    weights = torch.zeros(len(ids), len(column))
    for row, one in enumerate(ids):
        weights[row, column[one]] = 1
    return weights


def ordinary_ids(vocabulary: Vocabulary, ids: Sequence[int]) -> tuple[int, ...]:
    """The ids without those that weights cannot express, such as the unknown token."""
    known = set(vocabulary.ordinary)
    return tuple(one for one in ids if one in known)


def on_simplex(weights: Tensor) -> Tensor:
    """The nearest rows that are not negative and sum to 1 (Duchi et al., ICML 2008)."""
    ordered = weights.sort(dim=-1, descending=True).values
    ranks = torch.arange(1, weights.shape[-1] + 1, dtype=weights.dtype, device=weights.device)
    shifts = (ordered.cumsum(-1) - 1) / ranks
    last = (ordered > shifts).sum(-1, keepdim=True) - 1
    return (weights - shifts.gather(-1, last)).clamp(min=0)
