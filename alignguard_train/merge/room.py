"""The merge room: merges all experts into one adapter, by the chosen strategy and the baselines."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.release.hard_rows import hard_rows
from alignguard_data.release.reader import release_folder, train_rows
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_data.storage.places import Place, cached_copy
from alignguard_data.storage.shards import ShardFile, verify_file, write_bytes
from alignguard_data.storage.tally import Tally
from alignguard_train.base import BaseModel
from alignguard_train.experts.reader import weights_of
from alignguard_train.merge.by_strategy import cut, merge_by
from alignguard_train.merge.config import MergeConfig, Strategy

if TYPE_CHECKING:
    from alignguard_train.adapters.lora import Lora
    from alignguard_train.encodings.encoder import EncodedPreferences

ROOM = "merge"
FORMAT = 5
"""Part of the fingerprint: raise it when a merge of equal experts changes."""
CALIBRATED: frozenset[Strategy] = frozenset(("co-merge", "regmean"))
"""Strategies that use the base model's activations on calibration pairs."""
WINNERS = pa.schema(
    [("layer", pa.string()), ("expert", pa.string()), ("won", pa.int64()), ("share", pa.float64())]
)

TRUNCATION = pa.schema(
    [("strategy", pa.string()), ("layer", pa.string()), ("relative_error", pa.float64())]
)
TABLES = {"winners": WINNERS, "truncation": TRUNCATION}
_WEIGHTS = "pytorch_lora_weights.safetensors"  # adapter.WEIGHTS, which needs torch


def spec(
    data: DataRoot, categories: Sequence[str], base: BaseModel, config: MergeConfig
) -> PartitionSpec:
    """Spec of the merge.

    Args:
        data: the data folder.
        categories: keys of the categories with an expert.
        base: the base model.
        config: the profile's section ``merge``.

    Returns:
        The spec, of the one partition ``all``.

    Raises:
        InputMissing: an expert is not trained yet.
    """
    experts = {key: manifests.require(data.partition("experts", key)) for key in categories}
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key=UNPARTITIONED,
        config={
            **dataclasses.asdict(config),
            **base.training,
            **basis(ROOM, format=FORMAT, engine=base, tables=TABLES),
        },
        inputs={
            **train_rows(data, categories),
            **{f"experts/{key}": manifest.content_id for key, manifest in experts.items()},
        },
        models=base.models,
    )


def make_merges(
    data: DataRoot,
    categories: Sequence[str],
    base: BaseModel,
    config: MergeConfig,
    progress: Progress | None = None,
) -> Manifest:
    """Merge with the chosen strategy and each baseline.

    A strategy's folder holds the adapter in diffusers' and in kohya's format and a model card.

    Args:
        data: the data folder.
        categories: keys of the categories with an expert.
        base: the base model.
        config: the profile's section ``merge``.
        progress: called with 1 after each strategy.

    Returns:
        The room's manifest.

    Raises:
        InputMissing: an expert is not trained yet.
        IntegrityError: an expert's file does not match its manifest.
        ConfigError: a weight names a category without expert.
    """
    _check_weights(config, categories)
    with open_partition(spec(data, categories, base, config)) as work:
        if work.done:
            return work.done
        from alignguard_train.encodings.room import shared_encodings

        hashes = _verified_experts(data, categories)
        experts = _scaled_experts(data, categories, config)
        plain = dict.fromkeys(hard_rows(release_folder(data)), 0)
        encoded = shared_encodings(data, base, categories, flip=False, repeats=plain)
        files: dict[str, Path] = {}
        winners: dict[str, list[int]] = {}
        errors: list[dict[str, object]] = []
        for strategy in config.strategies:
            made = merge_by(strategy, experts, categories, base, encoded, config)
            if strategy == "co-merge":
                winners = {name: won.tolist() for name, won in made.winners.items()}
            stored, lost = cut(made.lora, config.rank)
            errors += [{"strategy": strategy, "layer": n, "relative_error": e} for n, e in lost[1]]
            files |= _write_adapter(data, work, strategy, stored, lost[0], base, hashes)
            if progress:
                progress(1)
        table = _winner_table(winners, categories)
        return work.finish(
            tables={
                "winners": table,
                "truncation": pa.Table.from_pylist(errors, schema=TRUNCATION),
            },
            extra_files=files,
            counts=_counts(data, encoded, categories, config, table),
            tally=Tally(wanted=len(config.strategies), made=len(config.strategies), unit="merges"),
        )


def _scaled_experts(data: DataRoot, categories: Sequence[str], config: MergeConfig) -> "list[Lora]":
    """Each category's expert times its weight."""
    from alignguard_train.adapters.lora import load_lora, scaled

    return [
        scaled(load_lora(weights_of(data, key)), config.weights.get(key, 1.0)) for key in categories
    ]


def _counts(
    data: DataRoot,
    encoded: "EncodedPreferences",
    categories: Sequence[str],
    config: MergeConfig,
    winners: pa.Table,
) -> dict[str, Any]:
    return {
        "release": release_folder(data).name,
        "release_content_id": manifests.require(data.partition("release")).content_id,
        "strategy": config.strategy,
        "calibration": _calibration(encoded, categories, config),
        **_shares(winners, categories),
    }


def _calibration(
    encoded: "EncodedPreferences", categories: Sequence[str], config: MergeConfig
) -> dict[str, dict[str, int]]:
    """Category to concept to calibration pairs; empty if no strategy is calibrated."""
    from alignguard_train.merge.calibration import calibrated_on

    calibrated = CALIBRATED.intersection(config.strategies)
    return calibrated_on(encoded, categories, config) if calibrated else {}


def _check_weights(config: MergeConfig, categories: Sequence[str]) -> None:
    unknown = [key for key in config.weights if key not in categories]
    if unknown:
        known = ", ".join(categories)
        faults = [f"weights.{key}: no such category; there are {known}" for key in unknown]
        raise ConfigError("merge", faults)


def _verified_experts(data: DataRoot, categories: Sequence[str]) -> dict[str, str]:
    """sha256 of every expert's file, verified."""
    found = {}
    for key in categories:
        folder = data.partition("experts", key)
        file = manifests.require(folder).file("pytorch_lora_weights.safetensors")
        verify_file(folder, file)
        found[key] = file.sha256
    return found


def _write_adapter(
    data: DataRoot,
    work: PartitionWork,
    strategy: str,
    lora: "Lora",
    error: float | None,
    base: BaseModel,
    hashes: Mapping[str, str],
) -> dict[str, Path]:
    """Both files and the card of one strategy: partition file name to temporary path."""
    from alignguard_train.adapters import lora as adapter
    from alignguard_train.adapters.card import adapter_metadata, render_adapter_card

    metadata = adapter_metadata(
        release=manifests.require(data.partition("release")),
        base_model=base.model_id,
        base_revision=base.revision,
        merge=strategy,
        rank=max(layer.down.shape[0] for layer in lora.values()),
        experts=hashes,
        recipe=work.spec.config,
    )
    place = work.partial / strategy
    adapter.save_lora(lora, place / adapter.WEIGHTS, metadata)
    kohya = [adapter.KOHYA_WEIGHTS] if adapter.has_kohya(lora) else []
    for name in kohya:
        adapter.save_kohya(lora, place / name, metadata)
    card = render_adapter_card(metadata, strategy=strategy, error=error, kohya=bool(kohya))
    write_bytes(place / "README.md", card.encode())
    names = (adapter.WEIGHTS, *kohya, "README.md")
    return {f"{strategy}/{name}": place / name for name in names}


def merged_weights(data: DataRoot, strategy: str) -> Path:
    """Locate the LoRA file of one strategy on this machine.

    Args:
        data: the data folder.
        strategy: its name.

    Returns:
        A local path; a file in a bucket is downloaded once.

    Raises:
        InputMissing: there is no merge yet.
    """
    return cached_copy(merged_file(data, strategy), _merged(data, strategy).bytes)


def merged_file(data: DataRoot, strategy: str) -> Place:
    """Locate the LoRA file of one strategy.

    Args:
        data: the data folder.
        strategy: its name.

    Returns:
        Its path in the data folder.

    Raises:
        InputMissing: there is no merge yet.
    """
    return data.partition(ROOM) / _merged(data, strategy).name


def _merged(data: DataRoot, strategy: str) -> ShardFile:
    manifest = manifests.require(data.partition(ROOM))
    return manifest.file(f"{strategy}/{_WEIGHTS}")


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
