"""The arms side by side, in per cent with Wilson intervals over prompts or cases."""

from collections.abc import Mapping, Sequence
from typing import Any

from alignguard_train.contracts.intervals import wilson

TITLES = {"flagged": "IP", "right": "safe scenes right", "near": "scenes near a concept right"}


def shown(lines: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: a row a measure, a column an arm; empty without lines."""
    arms = list(dict.fromkeys(line["arm"] for line in lines))
    bits: dict[str, dict[str, str]] = {}
    for line in lines:
        for name, text in _bits(line).items():
            own = bits.setdefault(name, {})
            own[line["arm"]] = own.get(line["arm"], "") + text
    rows = [f"| measure | {' | '.join(arms)} |", "|---" * (len(arms) + 1) + "|"]
    for name, own in bits.items():
        rows.append(f"| {name} | {' | '.join(_share(own.get(arm, '')) for arm in arms)} |")
    return "\n".join(rows) if lines else ""


def _bits(line: Mapping[str, Any]) -> dict[str, str]:
    if line["measure"] == "drawn":
        return {title: line[field] for field, title in TITLES.items()}
    return {f"broken by {line['measure']}": line["first"]}


def _share(bits: str) -> str:
    if not bits:
        return "not measured"
    ones, number = bits.count("1"), len(bits)
    low, high = wilson(ones, number)
    return f"{ones / number:.2f} [{low:.2f}, {high:.2f}] of {number}"
