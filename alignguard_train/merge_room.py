"""The merge room: all experts into one adapter, and the baselines that it is compared with."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from alignguard_data import manifest as manifests
from alignguard_data.manifest import Manifest
from alignguard_data.partition import PartitionSpec, open_partition
from alignguard_data.paths import UNPARTITIONED, DataRoot
from alignguard_data.protocols import Progress
from alignguard_data.shards import verify_file
from alignguard_train.base import BaseModel
from alignguard_train.evaluation_room import release_folder
from alignguard_train.experts import weights_of
from alignguard_train.recipes import MergeConfig

ROOM = "merge"
WINNERS = pa.schema(
    [("layer", pa.string()), ("expert", pa.string()), ("won", pa.int64()), ("share", pa.float64())]
)


def spec(
    data: DataRoot, categories: Sequence[str], base: BaseModel, config: MergeConfig
) -> PartitionSpec:
    """What the merge should be made of.

    Raises:
        InputMissing: an expert is not trained yet.
    """
    experts = {key: manifests.require(data.partition("experts", key)) for key in categories}
    release = manifests.require(data.partition("release"))
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key=UNPARTITIONED,
        config=dataclasses.asdict(config),
        inputs={
            "release": release.content_id,
            **{f"experts/{key}": manifest.content_id for key, manifest in experts.items()},
        },
        models={base.model_id: base.revision},
    )


def make_merges(
    data: DataRoot,
    categories: Sequence[str],
    base: BaseModel,
    config: MergeConfig,
    progress: Progress | None = None,
) -> Manifest:
    """Merge with the chosen strategy and each baseline; ``progress`` counts strategies.

    Files are ``<strategy>/pytorch_lora_weights.safetensors``; table "winners" says how many rows
    of each layer each expert won under Co-Merge.

    Raises:
        InputMissing: an expert is not trained yet.
        IntegrityError: an expert's file is not what its manifest says.
    """
    with open_partition(spec(data, categories, base, config)) as work:
        if work.done:
            return work.done
        from alignguard_train.adapter import WEIGHTS, load_lora, save_lora
        from alignguard_train.calibration import measure_activity
        from alignguard_train.dataset import encode, load_preferences
        from alignguard_train.merge import merge

        for key in categories:
            folder = data.partition("experts", key)
            verify_file(folder, manifests.require(folder).file("pytorch_lora_weights"))
        experts = [load_lora(weights_of(data, key)) for key in categories]
        encoded = encode(load_preferences(release_folder(data), categories), base)
        activity = measure_activity(base, experts, encoded, config)
        files, winners = {}, {}
        for strategy in config.strategies:
            merged = merge(strategy, experts, activity, config)
            path = work.partial / f"{strategy}.safetensors"
            save_lora(merged.lora, path)
            files[f"{strategy}/{WEIGHTS}"] = path
            winners = winners or {name: won.tolist() for name, won in merged.winners.items()}
            if progress:
                progress(1)
        table = _winner_table(winners, categories)
        return work.finish(
            tables={"winners": table},
            extra_files=files,
            counts={"strategy": config.strategy, **_shares(table, categories)},
        )


def merged_weights(data: DataRoot, strategy: str) -> Path:
    """The LoRA file of one strategy.

    Raises:
        InputMissing: nothing was merged yet.
    """
    folder = data.partition(ROOM)
    wanted = f"/{strategy}/"
    manifest = manifests.require(folder)
    return folder / next(file.name for file in manifest.files if wanted in file.name)


def _winner_table(winners: Mapping[str, Sequence[int]], categories: Sequence[str]) -> pa.Table:
    rows = []
    for layer, won in winners.items():
        counted = Counter(won)
        rows += [
            {"layer": layer, "expert": key, "won": counted[k], "share": counted[k] / len(won)}
            for k, key in enumerate(categories)
        ]
    return pa.Table.from_pylist(rows, schema=WINNERS)


def _shares(table: pa.Table, categories: Sequence[str]) -> dict[str, float]:
    """Share of all output rows that each expert won."""
    total: Counter[str] = Counter()
    for row in table.to_pylist():
        total[row["expert"]] += row["won"]
    rows = sum(total.values())
    return {f"won by {key}": round(total[key] / rows, 4) for key in categories} if rows else {}
