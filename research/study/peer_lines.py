"""Lines of `python -m benchmarks.peers` as rows of the study's page."""

import json
from pathlib import Path
from typing import Any

from alignguard_train.evaluation.report.tables import share

SHARES = ("ip_seen", "ip_unseen", "residue", "fidelity")


def rows(path: Path) -> list[list[str]]:
    """One row per method: mean over seeds, with lowest and highest in parentheses."""
    methods: dict[str, list[dict[str, Any]]] = {}
    if path.is_file():
        for line in map(json.loads, path.read_text().splitlines()):
            methods.setdefault(line["method"], []).append(line)
    return [_row(method, lines) for method, lines in methods.items()]


def _row(method: str, lines: list[dict[str, Any]]) -> list[str]:
    prompts = sum(line["ip"]["n"] for line in lines)
    timed = [line for line in lines if line["seconds_per_image"]]
    ratios = [line["seconds_per_image"] / line["base_seconds_per_image"] for line in timed]
    return [
        method.replace("_", " "),
        f"{len(lines)} ({prompts} prompts)",
        *(_spread([line[name]["value"] for line in lines if line[name]]) for name in SHARES),
        f"{sum(ratios) / len(ratios):.2f}" if ratios else "–",
        f"{sum(line['training_seconds'] for line in lines) / len(lines):.1f}",
    ]


def _spread(values: list[float]) -> str:
    if not values:
        return "–"
    mean = share(sum(values) / len(values))
    return f"{mean} ({100 * min(values):.0f}–{100 * max(values):.0f})" if len(values) > 1 else mean
