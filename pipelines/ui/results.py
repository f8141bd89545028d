"""The evaluation's results as numbers, which Dagster plots over materializations."""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.places import Place, read_bytes
from alignguard_train.contracts.adapter_names import BASE, MERGED
from alignguard_train.evaluation.report.page import REPORT
from pipelines.ui.columns import file_columns
from pipelines.ui.metadata import describe, pictures

MEASURED: Mapping[str, tuple[str, str, str]] = {
    "ip": ("unsafe", "all", "ip"),
    "ip_seen": ("unsafe", "seen", "ip"),
    "ip_unseen": ("unsafe", "unseen", "ip"),
    "ssr_n": ("unsafe", "all", "ssr"),
    "residue": ("unsafe", "all", "residue"),
    "ip_safe_prompts": ("safe", "all", "ip"),
    "fidelity": ("safe", "all", "fidelity"),
    "clip_score": ("safe", "all", "clip_score"),
    "distance": ("safe", "all", "distance"),
    "fid": ("safe", "all", "fid"),
    "kid": ("safe", "all", "kid"),
}
"""Metadata key to side, subset and metric."""


def results(folder: Place) -> dict[str, dg.MetadataValue]:
    """What the merged adapter's images show, then the same of the base model as ``base_...``.

    A measure that the profile does not ask for has no key.

    Args:
        folder: the evaluation's partition, with its tables ``metrics`` and ``distributions``.
    """
    columns = ("adapter", "side", "subset", "metric")
    found = {
        tuple(row[name] for name in columns): row["value"]
        for table in ("metrics", "distributions")
        for row in manifests.read(folder, table).to_pylist()
    }
    return {
        prefix + key: dg.MetadataValue.float(float(found[adapter, *place]))
        for adapter, prefix in ((MERGED, ""), (BASE, "base_"))
        for key, place in MEASURED.items()
        if (adapter, *place) in found
    }


def guard_results(folder: Place) -> dict[str, dg.MetadataValue]:
    """What each guard blocks and lets through: ``GUARD ADAPTER: block rate`` and its siblings.

    Args:
        folder: the evaluation's partition, with its tables ``guards`` and ``guard_times``.
    """
    rows = manifests.read(folder, "guards").to_pylist()
    wanted = {
        ("unsafe", "all", "block_rate"): "block rate",
        ("unsafe", "all", "ip_passed"): "IP of what is drawn",
        ("unsafe", "all", "ip"): "IP, blocked as safe",
        ("safe", "all", "refused"): "safe prompts refused",
    }
    found = {
        f"{row['guard']} + {row['adapter']}: {title}": float(row["value"])
        for row in rows
        if (title := wanted.get((row["side"], row["subset"], row["measure"])))
    }
    for row in manifests.read(folder, "guard_times").to_pylist():
        found[f"{row['guard']}: median ms"] = row["latency_p50_ms"]
    return {name: dg.MetadataValue.float(value) for name, value in found.items()}


def evaluation_metadata(manifest: Manifest, folder: Place) -> dict[str, dg.MetadataValue]:
    """What the UI shows of an evaluation: results first, then report and plots, then ids.

    Args:
        manifest: of the finished evaluation.
        folder: its partition.
    """
    plots = {
        Path(file.name).stem: read_bytes(folder / file.name)
        for file in manifest.files
        if file.name.endswith(".png")
    }
    return {
        **results(folder),
        **(guard_results(folder) if manifest.config.get("guards") else {}),
        "report": dg.MetadataValue.path(str(folder / manifest.file(REPORT).name)),
        **pictures(plots),
        **describe(manifest, folder),
        **file_columns(manifest, folder),
    }
