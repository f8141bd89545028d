"""Experts in orthogonal subspaces of their layers' inputs.

Each expert reads its own directions: its down matrices are disjoint rows of one random orthogonal
matrix and stay fixed, only the up matrices are trained, so no expert's delta acts on another's
directions. Orthogonal directions between tasks are O-LoRA's idea (arXiv 2310.14152), which
penalizes overlap; fixed down matrices are FFA-LoRA's (arXiv 2403.12313).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.adapters.live import LiveAdapter, live_adapter
from alignguard_train.adapters.lora import Lora
from alignguard_train.base import BaseModel
from alignguard_train.contracts.noise import seeded
from alignguard_train.contracts.recipes import ExpertRecipe


@dataclass(frozen=True, slots=True)
class UpOnly:
    """An adapter of which only the up matrices are trained."""

    whole: LiveAdapter

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The up matrices by name."""
        return {name: p for name, p in self.whole.parameters.items() if ".lora_B." in name}

    def off(self) -> AbstractContextManager[None]:
        """Switch the adapter off within the block."""
        return self.whole.off()

    def conditioned(self, conditions: Conditions, about: Tensor | None) -> Conditions:
        """The conditions as they are."""
        return self.whole.conditioned(conditions, about)

    def weights(self) -> Lora:
        """Copy of both matrices."""
        return self.whole.weights()


@contextmanager
def in_subspace(
    base: BaseModel, recipe: ExpertRecipe, seed: int, *, subspace: tuple[int, int]
) -> Iterator[UpOnly]:
    """Put an adapter on the denoiser that reads one of several orthogonal subspaces.

    Args:
        base: the base model.
        recipe: rank and layers.
        seed: of the orthogonal matrices; equal for all experts that are to be merged.
        subspace: number of this expert's subspace, and how many there are.

    Yields:
        The adapter, switched on.

    Raises:
        ValueError: a layer has too few inputs for that many subspaces of this rank.
    """
    with live_adapter(base, recipe, seed) as adapter:
        for name, parameter in adapter.parameters.items():
            if ".lora_A." in name:
                parameter.data.copy_(_rows(parameter, subspace, name, seed))
                parameter.requires_grad_(False)
        yield UpOnly(adapter)


def _rows(like: Tensor, subspace: tuple[int, int], name: str, seed: int) -> Tensor:
    (rank, inputs), (number, count) = like.shape, subspace
    if rank * count > inputs:
        raise ValueError(f"{name} has {inputs} inputs, too few for {count} subspaces of {rank}")
    generator = seeded(f"subspace {name}", seed, 0)
    matrix: Any = torch.linalg.qr(torch.randn(inputs, inputs, generator=generator))[0]
    rows = matrix[number * rank : (number + 1) * rank]
    return rows * like.norm() / rows.norm()  # as large as the usual start
