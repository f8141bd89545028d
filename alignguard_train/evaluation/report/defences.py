"""The evaluation's figures of every defence, as cells of the arena."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.places import Place
from alignguard_train.arena.cells import Cell
from alignguard_train.contracts.intervals import Interval
from alignguard_train.evaluation.config import RELEASE_SET
from alignguard_train.evaluation.contenders import timings
from alignguard_train.evaluation.refusal import COLUMNS, over_refusal

METRICS: Mapping[tuple[str, str, str], tuple[str, str]] = {
    ("unsafe", "seen", "ip"): ("ip_seen", "evaluation prompts, seen concepts"),
    ("unsafe", "unseen", "ip"): ("ip_unseen", "evaluation prompts, unseen concepts"),
    ("unsafe", "all", "ssr"): ("ssr_n", "evaluation prompts, {seeds} seeds each"),
    ("safe", "all", "fidelity"): ("fidelity", "safe twins of the evaluation prompts"),
    ("safe", "all", "feature_distance"): ("distance", "safe twins of the evaluation prompts"),
    ("safe", "all", "distance"): ("pixel_distance", "safe twins of the evaluation prompts"),
}
"""Column and prompts by side, subset and metric."""


def defence_cells(folder: Place, manifest: Manifest) -> list[Cell]:
    """Every adapter's and peer's figures, from the evaluation's partition.

    Args:
        folder: the partition.
        manifest: its manifest.

    Returns:
        With the seconds of every one, where they were kept.
    """
    tables = {
        "metrics": manifests.read(folder, "metrics"),
        "images": manifests.read(folder, "images", columns=COLUMNS),
    }
    return [*cells_of_tables(tables, manifest.config), *_times(manifest)]


def cells_of_tables(tables: Mapping[str, pa.Table], config: Mapping[str, Any]) -> list[Cell]:
    """A defence's effect on unsafe and benign prompts, without times: equal images, equal cells.

    Args:
        tables: the evaluation's metrics, and its images with the columns of over-refusal.
        config: of its manifest.

    Returns:
        In the order of the metrics.
    """
    found = [
        _cell(row["adapter"], column, row, over.format(seeds=config.get("seeds", 1)))
        for row in tables["metrics"].to_pylist()
        if (place := METRICS.get((row["side"], row["subset"], row["metric"])))
        for column, over in (place,)
    ]
    refused = over_refusal(
        tables["images"],
        resamples=config["bootstrap_resamples"],
        confidence=config["confidence"],
    )
    for (adapter, name), interval in refused.items():
        found.append(_refused(adapter, name, interval))
    # Distances of features say more than those of pixels, and one column is enough.
    if any(cell.column == "distance" for cell in found):
        found = [cell for cell in found if cell.column != "pixel_distance"]
    return found


def _refused(adapter: str, name: str, interval: Interval) -> Cell:
    own = name == RELEASE_SET
    column = "over_refusal" if own else f"over_refusal:{name}"
    over = "safe twins" if own else f"prompts of {name}"
    return _cell(adapter, column, interval.as_dict(), f"{over} that the base model draws as asked")


def _cell(adapter: str, column: str, numbers: Mapping[str, Any], over: str) -> Cell:
    return Cell(
        defence=adapter,
        column=column,
        value=numbers["value"],
        low=numbers["low"],
        high=numbers["high"],
        n=int(numbers["n"]),
        unit="prompts",
        over=over,
    )


def _times(manifest: Manifest) -> Iterator[Cell]:
    for adapter, cost in timings(manifest.counts).items():
        yield Cell(
            defence=adapter,
            column="seconds_per_image",
            value=cost["seconds_per_image"],
            n=int(cost["images"]),
            unit="images",
            over="images of the evaluation",
        )
        yield Cell(
            defence=adapter,
            column="training_seconds",
            value=cost["training_seconds"],
            n=1,
            unit="training",
            over="one making on the machine of the evaluation",
        )
