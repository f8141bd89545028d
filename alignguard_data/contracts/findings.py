"""Audit findings, and comparisons shared by rooms and releases."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

_SHOWN = 5  # faults named in a message; the numbers count all


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One claim: whether it holds, its numbers, and the faults (or what was checked).

    Attributes:
        name: the claim, as a slug.
        passed: whether it holds.
        numbers: what was counted, by name.
        message: the first faults, or what was checked.
    """

    name: str
    passed: bool
    numbers: dict[str, float]
    message: str


def schema_fault(actual: pa.Schema, expected: pa.Schema) -> str | None:
    """Compare two schemas.

    Args:
        actual: schema of a file.
        expected: schema that it should have.

    Returns:
        How they differ in names, order or types; None if they are equal.
    """
    have = [(field.name, _plain(field.type)) for field in actual]
    want = [(field.name, _plain(field.type)) for field in expected]
    if have == want:
        return None
    wrong = [f"{name}: {kind}" for name, kind in want if (name, kind) not in have]
    extra = [f"{name}: {kind}" for name, kind in have if (name, kind) not in want]
    return f"lacks {wrong}, has {extra}" if wrong or extra else "columns are in another order"


def finding(name: str, faults: Sequence[str], numbers: Mapping[str, float]) -> Finding:
    """Make a finding that passes if there are no faults.

    Args:
        name: the claim, as a slug.
        faults: one message per fault; the first few are shown.
        numbers: what was counted, by name.

    Returns:
        The finding.
    """
    listed = "; ".join(faults[:_SHOWN])
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    checked = ", ".join(f"{key} {value:g}" for key, value in numbers.items())
    return Finding(
        name=name,
        passed=not faults,
        numbers=dict(numbers),
        message=listed + more if faults else checked,
    )


def _plain(kind: Any) -> str:
    # A list's item name differs between memory and file.
    return re.sub(r"<\w+: ", "<", str(kind)).replace(" not null", "")
