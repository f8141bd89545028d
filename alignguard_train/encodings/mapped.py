"""Rows of tensors that stay on disk until they are read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Conditions


class MappedRows:
    """Rows of several mapped tensors in a given order; reads only the rows of an index.

    Args:
        parts: tensors (rows, ...) that differ in the number of rows only.
        order: (total rows,): each row's position among the parts' rows.
    """

    def __init__(self, parts: Sequence[Tensor], order: Tensor) -> None:
        self._parts, self._order = parts, order
        self._ends = torch.tensor([len(part) for part in parts]).cumsum(0)

    @property
    def shape(self) -> torch.Size:
        """Shape of all rows together."""
        return torch.Size((len(self._order), *self._parts[0].shape[1:]))

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Rows by an index (n,): (n, ...), in memory."""
        found = self._parts[0].new_empty((len(rows), *self.shape[1:]))
        places = self._order[rows]
        which = torch.searchsorted(self._ends, places, right=True)
        for number in which.unique().tolist():
            here = which == number
            start = int(self._ends[number]) - len(self._parts[number])
            found[here] = self._parts[number][places[here] - start]
        return found


class MappedConditions:
    """Conditions whose rows are mapped."""

    def __init__(self, states: MappedRows, pooled: MappedRows | None) -> None:
        self._states, self._pooled = states, pooled

    def __getitem__(self, rows: Tensor) -> Conditions:
        pooled = None if self._pooled is None else self._pooled[rows]
        return Conditions(states=self._states[rows], pooled=pooled)
