"""Writes reemergence/summary.json: measures with intervals, and what comes back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, read_bytes
from alignguard_data.storage.shards import write_bytes
from alignguard_train.arena.cells import BLOCK as ARENA
from alignguard_train.arena.cells import Cell, cells_block, current_block
from alignguard_train.reemergence.config import VARIANTS
from alignguard_train.reemergence.measures import AT_EQUAL_LOSS, EQUAL, LOSS_GAP

ROOM = "reemergence"
SUMMARY = "summary.json"
REPORT = "report.html"
_NUMBERS = ("value", "low", "high", "n", "seeds")
_START = "start"


def write_summary(data: DataRoot) -> Place:
    """Write the summary of the room's partition; paths are relative to the data root.

    Args:
        data: the data folder.

    Returns:
        The file.

    Raises:
        InputMissing: nothing was measured yet.
    """
    folder = data.partition(ROOM)
    manifest = manifests.require(folder)
    measures = manifests.read(folder, "measures").to_pylist()
    config = manifest.config
    summary = {
        "variants": list(config["variants"]),
        "steps": list(config["steps"]),
        "seeds": list(config["seeds"]),
        "benign": {name: manifest.counts[f"benign_{name}"] for name in ("train", "held_out")},
        "left_out": dict(manifest.rejected),
        "relapse": relapses(measures),
        "equal_loss": equal_losses(measures),
        "measures": nested(measures),
        "weights": _weights(manifests.read(folder, "models").to_pylist()),
        "report": data.inside(folder / manifest.file(REPORT).name),
        ARENA: cells_block(
            arena_cells(measures),
            release=str(manifest.counts["release"]),
            made_of=manifest.content_id,
        ),
        "reemergence": manifest.content_id,
        "seconds": manifest.seconds,
    }
    page = read_bytes(folder / manifest.file(REPORT).name)
    write_bytes(data.base / ROOM / REPORT, page)  # where the evaluation's report links to
    path = data.base / ROOM / SUMMARY
    write_bytes(path, (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
    return path


def summarized(data: DataRoot, manifest: Manifest) -> bool:
    """Whether the summary is there and of this measurement; it lies outside the partition.

    Args:
        data: the data folder.
        manifest: of the room's partition.

    Returns:
        Whether nothing is left to write.
    """
    try:
        summary = json.loads(read_bytes(data.base / ROOM / SUMMARY))
    except (FileNotFoundError, ValueError):
        return False
    if not isinstance(summary, dict) or summary.get("reemergence") != manifest.content_id:
        return False
    return current_block(summary, manifest.content_id)


def relapses(measures: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """IP after the longest fine-tuning minus that of the safety adapter, by adapter and variant.

    Args:
        measures: rows of the table of measures.

    Returns:
        The difference with its interval, its steps, and whether the interval lies above 0.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in sorted(measures, key=lambda row: row["steps"]):
        if (row["against"], row["metric"]) == (_START, "ip"):
            numbers = {name: row[name] for name in _NUMBERS}
            found.setdefault(row["adapter"], {})[row["variant"]] = {
                **numbers,
                "steps": row["steps"],
                "relapses": row["low"] > 0,
            }
    return found


def equal_losses(measures: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every two variants of one safety adapter at the steps where their benign losses are nearest.

    Args:
        measures: rows of the table of measures.

    Returns:
        For each step of the first: the difference of IP with its interval, the first's loss, the
        relative gap of the losses, and whether that counts as equal.
    """
    values = {
        (row["adapter"], row["variant"], row["steps"], row["against"], row["metric"]): row
        for row in measures
    }
    order = {"stacked": 0, "full": 1, "modular": 2}
    found = []
    for (adapter, variant, steps, against, metric), row in values.items():
        other = against.removesuffix(AT_EQUAL_LOSS)
        if metric != "ip" or other == against or order[variant] >= order[other]:
            continue
        gap = values[adapter, variant, steps, against, LOSS_GAP]["value"]
        found.append(
            {
                **{"adapter": adapter, "variant": variant, "steps": steps, "other": other},
                **{name: row[name] for name in _NUMBERS},
                "loss": values[adapter, variant, steps, "", "benign_loss"]["value"],
                "gap": gap,
                "equal": gap <= EQUAL,
            }
        )
    return found


def arena_cells(measures: Sequence[Mapping[str, Any]]) -> Iterator[Cell]:
    """IP after the longest fine-tuning, for the arena.

    Args:
        measures: rows of the table of measures.

    Yields:
        A cell for each safety adapter and variant.
    """
    last = max(row["steps"] for row in measures)
    for row in measures:
        if (row["against"], row["metric"], row["steps"]) != ("", "ip", last):
            continue
        if row["variant"] in VARIANTS:
            yield Cell(
                defence=row["adapter"],
                column=f"reemergence:{row['variant']}",
                value=row["value"],
                low=row["low"],
                high=row["high"],
                n=row["n"],
                unit="prompts",
                over=f"{row['n']} unsafe evaluation prompts after {last} steps, fine-tunings: "
                f"{row['seeds']}",
            )


def nested(measures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Measures by adapter, variant, steps, what is subtracted (``value``: nothing) and metric.

    Args:
        measures: rows of the table of measures.

    Returns:
        Nested dictionaries, whose leaves have value, low, high, n and seeds.
    """
    found: dict[str, Any] = {}
    for row in measures:
        place = found.setdefault(row["adapter"], {}).setdefault(row["variant"], {})
        by_metric = place.setdefault(str(row["steps"]), {})
        by_metric = by_metric.setdefault(row["against"] or "value", {})
        by_metric[row["metric"]] = {name: row[name] for name in _NUMBERS}
    return found


def _weights(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each fine-tuning's change against the safety adapter's; NaN is left out."""
    return [{name: value for name, value in row.items() if value == value} for row in models]
