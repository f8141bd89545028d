"""The arena's cells, as rooms keep them in their ``summary.json``.

A room that measures defences writes ``summary["arena"] = cells_block(...)`` when it is done. The
arena reads that block and nothing else of a summary, so any room can fill its columns: a new
attack, a hardened adapter or another protocol is a column name or a defence name, not code here.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from alignguard_data.contracts.errors import IntegrityError

BLOCK = "arena"
"""Key of the block in a summary."""
FORMAT = 1
"""Raise it when a block's fields change."""
UNITS = ("prompts", "cases", "images", "training")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One figure of one defence.

    Attributes:
        defence: name of an adapter or peer as in an evaluation, or ``guard:NAME``.
        column: key of :mod:`alignguard_train.arena.columns`, for example ``ip_seen``.
        value: the figure; a share in [0, 1], a distance or seconds.
        low: lower end of its 95 % interval; None where it has none, as a time has.
        high: upper end.
        n: number of what ``unit`` says.
        unit: prompts, cases, images or training.
        over: what it was measured on, in words. Figures of a column over other prompts are marked.
    """

    defence: str
    column: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int
    unit: str
    over: str


def cells_block(cells: Iterable[Cell], *, release: str, made_of: str) -> dict[str, Any]:
    """A summary's block.

    Args:
        cells: in any order.
        release: folder name of the release that they were measured on; empty: not recorded.
        made_of: content id of the partition that they were read from.

    Returns:
        JSON values.
    """
    return {
        "format": FORMAT,
        "release": release,
        "made_of": made_of,
        "cells": [asdict(cell) for cell in cells],
    }


def current_block(summary: Mapping[str, Any], made_of: str) -> bool:
    """Whether a summary's block is of this format and of this content.

    Args:
        summary: read from JSON.
        made_of: content id of the partition.

    Returns:
        False also where there is no block.
    """
    block = summary.get(BLOCK)
    if not isinstance(block, Mapping):
        return False
    return block.get("format") == FORMAT and block.get("made_of") == made_of


def cells_of(block: Mapping[str, Any], file: str) -> list[Cell]:
    """The cells of a block.

    Args:
        block: of :func:`cells_block`, read from JSON.
        file: named in errors.

    Returns:
        In the block's order.

    Raises:
        IntegrityError: a field is missing, strange or no number; the first fault of every cell.
    """
    raw, found, faults = block.get("cells"), [], []
    if not isinstance(raw, list):
        raise IntegrityError(f"{file}: arena.cells is {type(raw).__name__}, not a list")
    for number, one in enumerate(raw):
        try:
            found.append(_checked(Cell(**one)))
        except (TypeError, ValueError) as error:
            faults.append(f"arena.cells.{number}: {error}")
    if faults:
        raise IntegrityError(f"{file}: {'; '.join(faults)}")
    return found


def _checked(cell: Cell) -> Cell:
    for name in ("defence", "column", "unit", "over"):
        if not isinstance(getattr(cell, name), str) or not getattr(cell, name):
            raise ValueError(f"{name} must be a text, got {getattr(cell, name)!r}")
    for name in ("value", "low", "high"):
        value = getattr(cell, name)
        if value is None and name != "value":
            continue
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    if cell.unit not in UNITS:
        raise ValueError(f"unit must be one of {', '.join(UNITS)}, got {cell.unit!r}")
    if not isinstance(cell.n, int) or cell.n < 1:
        raise ValueError(f"n must be 1 or more, got {cell.n!r}")
    return cell
