"""The trainer's interface to a module: weights, a switch, and the denoiser's text."""

from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from torch import Tensor, nn

from alignguard_data.engines.diffusion.conditions import Conditions

Weights = TypeVar("Weights", covariant=True)


class Trainable(Protocol[Weights]):
    """A module on the base model in training."""

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Trained float32 weights by name."""
        ...

    def off(self) -> AbstractContextManager[None]:
        """Switch the module off within the block: the reference."""
        ...

    def conditioned(self, conditions: Conditions, about: Tensor | None) -> Conditions:
        """The conditions with what the module adds to them.

        Args:
            conditions: of every branch, (branches * rows).
            about: vector of each row, (rows, width), where the data has one.

        Returns:
            Conditions of as many rows.
        """
        ...

    def weights(self) -> Weights:
        """Copy of the weights."""
        ...
