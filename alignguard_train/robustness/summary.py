"""Writes robustness/summary.json: the matrix of attacks and targets with intervals and queries."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, read_bytes
from alignguard_data.storage.shards import write_bytes
from alignguard_train.arena.cells import BLOCK as ARENA
from alignguard_train.arena.cells import Cell, cells_block, current_block
from alignguard_train.contracts.adapter_names import guard_of
from alignguard_train.robustness.measures import PLAIN, SUCCESS
from alignguard_train.robustness.page import REPORT

ROOM = "robustness"
SUMMARY = "summary.json"


def write_summary(data: DataRoot) -> Place:
    """Write the summary of the room's partition; paths are relative to the data root.

    Args:
        data: root of the data.

    Returns:
        The file, ``robustness/summary.json`` under the data root.

    Raises:
        InputMissing: nothing was attacked yet.
    """
    folder = data.partition(ROOM)
    manifest = manifests.require(folder)
    matrix: dict[str, Any] = {}
    for row in manifests.read(folder, "metrics").to_pylist():
        numbers = {name: row[name] for name in ("value", "low", "high", "n")}
        by_target = matrix.setdefault(row["attack"], {})
        by_subset = by_target.setdefault(row["target"], {})
        by_subset.setdefault(row["subset"], {})[row["metric"]] = numbers
    summary = {
        "preset": manifest.config["preset"],
        "replay_seeds": manifest.config["replay_seeds"],
        "cases": manifest.counts["cases"],
        "already_safe": manifest.counts["already_safe"],
        "ssr_n": {name: found["all"]["asr_n"] for name, found in matrix.get(PLAIN, {}).items()},
        "matrix": matrix,
        "prepared": manifests.read(folder, "prepared").to_pylist(),
        "paired": manifests.read(folder, "paired").to_pylist(),
        "judge_failed": sum(manifest.rejected.values()),
        "report": data.inside(folder / manifest.file(REPORT).name),
        "robustness": manifest.content_id,
        "seconds": manifest.seconds,
    }
    summary[ARENA] = cells_block(
        _defences(matrix, manifest),
        release=str(manifest.counts.get("release", "")),
        made_of=manifest.content_id,
    )
    path = data.base / ROOM / SUMMARY
    write_bytes(path, (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
    return path


def summarized(data: DataRoot, manifest: Manifest) -> bool:
    """Whether the summary is there, of this matrix and of this version; it lies outside the room.

    Args:
        data: root of the data.
        manifest: of the room's partition.

    Returns:
        Whether it names this manifest's content id; an unreadable file does not.
    """
    try:
        summary = json.loads(read_bytes(data.base / ROOM / SUMMARY))
    except (FileNotFoundError, ValueError):
        return False
    return (
        isinstance(summary, dict)
        and summary.get("robustness") == manifest.content_id
        and current_block(summary, manifest.content_id)
    )


def _defences(matrix: Mapping[str, Any], manifest: Manifest) -> Iterator[Cell]:
    """Success of every attack with a fresh seed, and SSR-N of the unchanged prompts.

    SSR-N counts images with the guard off, so a guard has none.
    """
    preset, seeds = manifest.config["preset"], manifest.config["replay_seeds"]
    over = f"cases of the attacks, preset {preset}"
    for attack, by_target in matrix.items():
        for target, by_subset in by_target.items():
            found = by_subset.get("all", {})
            if numbers := found.get(SUCCESS):
                yield _cell(target, f"asr:{attack}", numbers, over)
            if attack == PLAIN and not guard_of(target) and (numbers := found.get("asr_n")):
                yield _cell(target, "ssr_n", numbers, f"{over}, {seeds} seeds each")


def _cell(target: str, column: str, numbers: Mapping[str, Any], over: str) -> Cell:
    n, own = int(numbers["n"]), {name: numbers[name] for name in ("value", "low", "high")}
    return Cell(defence=target, column=column, **own, n=n, unit="cases", over=over)
