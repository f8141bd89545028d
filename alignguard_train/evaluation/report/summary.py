"""Writes summary.json (every number with interval and n) and the merged adapter's model card."""

import json
from collections.abc import Mapping
from typing import Any

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, read_bytes, size
from alignguard_data.storage.shards import write_bytes
from alignguard_train.arena.cells import BLOCK as ARENA
from alignguard_train.arena.cells import cells_block, current_block
from alignguard_train.contracts.adapter_names import BASE, EXPERT, MERGED, PEER, label
from alignguard_train.evaluation.prompt_sets import note_prefix
from alignguard_train.evaluation.report import page as report
from alignguard_train.evaluation.report.defences import defence_cells

SUMMARY = "summary.json"
MODEL_CARD = "MODEL_CARD.md"

OWN_STYLE = """## Your own style beside this adapter

Train a style adapter on the base model **without** this one, then load both with weight 1. One that
is trained on top of this adapter, or together with it, can bring back what this adapter removed,
even on harmless images (arXiv 2412.00357).

```python
pipe.load_lora_weights("<this folder>", adapter_name="safety")
pipe.load_lora_weights("<your style>", adapter_name="style")
pipe.set_adapters(["safety", "style"], [1.0, 1.0])
```

`alignguard reemergence` measures it.
"""

Numbers = dict[str, float]
Metrics = dict[tuple[str, str, str, str], Numbers]
"""By adapter, side, subset and metric."""


def write_summary(data: DataRoot, *, seconds: Mapping[str, float], adapter: Place) -> Place:
    """Write ``evaluation/summary.json``; paths are relative to the data root.

    ``seconds`` maps rooms to durations; ``adapter`` is the merged adapter's file.

    Args:
        data: the data folder.
        seconds: duration by room.
        adapter: the merged adapter's file.

    Returns:
        The file.

    Raises:
        InputMissing: there is no evaluation yet.
    """
    folder = data.partition("evaluation")
    manifest = manifests.require(folder)
    metrics = _metrics(folder)
    measured = list(dict.fromkeys(key[0] for key in metrics))
    names = [name for name in measured if not name.startswith(PEER)]
    experts = [name for name in names if name.startswith(EXPERT)]
    ip: dict[str, object] = {
        name: _sides(metrics, name) for name in (BASE, MERGED) if name in names
    }
    ip["experts"] = {name.removeprefix(EXPERT): _sides(metrics, name) for name in experts}
    summary = {
        "ip": ip,
        "preservation": {name: _preservation(metrics, name) for name in names},
        "matrix": {name: _matrix(metrics, name) for name in names},
        "paired": manifests.read(folder, "paired").to_pylist(),
        "distributions": manifests.read(folder, "distributions").to_pylist(),
        "prompt_sets": _prompt_sets(folder, manifest, metrics),
        "release": "v" + str(manifest.counts["release"]).rsplit("-v", 1)[-1],
        "adapter": data.inside(adapter),
        "report": data.inside(folder / manifest.file(report.REPORT).name),
        "evaluation": manifest.content_id,
        "seconds": {room: round(value, 1) for room, value in seconds.items()},
    }
    summary[ARENA] = cells_block(
        defence_cells(folder, manifest),
        release=str(manifest.counts["release"]),
        made_of=manifest.content_id,
    )
    if ssr := {key[0]: metrics[key] for key in metrics if key[1:] == ("unsafe", "all", "ssr")}:
        summary["ssr_n"] = {"seeds": manifest.config["seeds"], **ssr}
    if len(measured) > len(names):
        shown = [name for name in measured if name in (BASE, MERGED) or name not in names]
        summary["peers"] = _peers(folder, metrics, shown)
    if manifest.config.get("guards"):
        summary["guards"] = _guards(folder)
    path = data.base / "evaluation" / SUMMARY
    write_bytes(path, (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
    return path


def summarized(data: DataRoot, manifest: Manifest) -> bool:
    """Whether the summary is there, of this evaluation and of this version, and the model card too.

    They lie outside the partition, and the summary is written last.
    """
    folder = data.base / "evaluation"
    try:
        summary = json.loads(read_bytes(folder / SUMMARY))
    except (FileNotFoundError, ValueError):
        return False
    if not isinstance(summary, dict) or not current_block(summary, manifest.content_id):
        return False
    recorded = summary.get("evaluation")
    return recorded == manifest.content_id and bool(size(folder / MODEL_CARD))


def write_model_card(data: DataRoot, *, adapter: Place) -> Place:
    """Write ``evaluation/MODEL_CARD.md``.

    The adapter's card with the report's tables under it, and how to train an adapter of one's own
    beside it, ready to be published with the adapter. It holds no image and no prompt.

    Args:
        data: the data folder.
        adapter: the adapter's file.

    Returns:
        The card.

    Raises:
        InputMissing: nothing was evaluated yet, or the adapter has no card.
    """
    folder = data.partition("evaluation")
    measured = _text(folder / manifests.require(folder).file(report.MARKDOWN).name)
    card = adapter.parent / "README.md"
    if not size(card):
        raise InputMissing(f"the adapter has no card: {card}")
    path = data.base / "evaluation" / MODEL_CARD
    text = f"{_text(card).rstrip()}\n\n{measured.rstrip()}\n\n{_beside(data)}"
    write_bytes(path, text.encode())
    return path


def _beside(data: DataRoot) -> str:
    """How to train an adapter beside this one, with what was measured of it, if it was."""
    try:
        relapse = json.loads(read_bytes(data.base / "reemergence" / SUMMARY))["relapse"]
    except FileNotFoundError:
        return OWN_STYLE
    rows = [
        f"| {label(adapter)} | {variant} | {100 * found['value']:+.1f} [{100 * found['low']:+.1f}, "
        f"{100 * found['high']:+.1f}] | {found['steps']} | {found['n']} | {found['seeds']} |"
        for adapter, by_variant in relapse.items()
        for variant, found in by_variant.items()
    ]
    head = (
        "| safety adapter | fine-tuning | IP after it minus before, points | steps | prompts "
        "| fine-tunings |\n|---|---|---|---|---|---|"
    )
    return "\n".join([OWN_STYLE, head, *rows]) + "\n"


def _text(place: Place) -> str:
    return read_bytes(place).decode()


def _metrics(folder: Place) -> Metrics:
    return {
        (row["adapter"], row["side"], row["subset"], row["metric"]): {
            name: row[name] for name in ("value", "low", "high", "n")
        }
        for row in manifests.read(folder, "metrics").to_pylist()
    }


def _peers(folder: Place, metrics: Metrics, names: list[str]) -> dict[str, Any]:
    """The report's table of peers: IP and residue, preservation, and cost."""
    costs = {row.pop("adapter"): row for row in manifests.read(folder, "costs").to_pylist()}
    return {
        name: {
            "ip": _sides(metrics, name),
            "residue": metrics.get((name, "unsafe", "all", "residue")),
            "preservation": _preservation(metrics, name),
            **costs.get(name, {}),
        }
        for name in names
    }


def _guards(folder: Place) -> dict[str, Any]:
    """By guard and adapter, side, subset and measure; and the guards' milliseconds."""
    found: dict[str, Any] = {}
    for row in manifests.read(folder, "guards").to_pylist():
        place = found.setdefault(row["guard"], {}).setdefault(row["adapter"], {})
        place = place.setdefault(row["side"], {}).setdefault(row["subset"], {})
        place[row["measure"]] = {name: row[name] for name in ("value", "low", "high", "n")}
    for row in manifests.read(folder, "guard_times").to_pylist():
        found[row.pop("guard")]["times"] = row
    return found


def _sides(metrics: Metrics, adapter: str) -> dict[str, Numbers]:
    found = {side: metrics.get((adapter, side, "all", "ip")) for side in ("unsafe", "safe")}
    return {side: numbers for side, numbers in found.items() if numbers}


def _preservation(metrics: Metrics, adapter: str) -> dict[str, Numbers]:
    wanted = {
        "fidelity": "fidelity",
        "clip_score": "clip_score",
        "feature_distance": "feature_distance",
        "distance_to_base": "distance",
    }
    found = {name: metrics.get((adapter, "safe", "all", m)) for name, m in wanted.items()}
    return {name: numbers for name, numbers in found.items() if numbers}


def _matrix(metrics: Metrics, adapter: str) -> dict[str, Numbers]:
    """One adapter's IP per category of unsafe prompts."""
    return {
        subset.removeprefix("category:"): numbers
        for (name, side, subset, metric), numbers in metrics.items()
        if (name, side, metric) == (adapter, "unsafe", "ip") and subset.startswith("category:")
    }


def _prompt_sets(folder: Place, manifest: Manifest, metrics: Metrics) -> dict[str, Any]:
    """Per set: its kind, what was refused or changed, and results by adapter, subset and metric."""
    rejected = manifests.read(folder, "rejected").to_pylist()
    found: dict[str, Any] = {}
    for chosen in manifest.config["prompt_sets"]:
        name = chosen["name"]
        own = [row["reason"] for row in rejected if row["prompt_set"] == name]
        prefix = note_prefix(name)
        found[name] = {
            "kind": chosen["kind"],
            "rejected": {reason: own.count(reason) for reason in sorted(set(own))},
            "notes": {
                key.removeprefix(prefix): value
                for key, value in manifest.counts.items()
                if key.startswith(prefix)
            },
            "metrics": _of_set(metrics, f"set:{name}"),
        }
    return found


def _of_set(metrics: Metrics, place: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (adapter, _, subset, metric), numbers in metrics.items():
        if subset == place or subset.startswith(place + "/"):
            part = subset.removeprefix(place).removeprefix("/") or "all"
            found.setdefault(adapter, {}).setdefault(part, {})[metric] = numbers
    return found
