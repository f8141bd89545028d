"""The experts room: one LoRA expert per category of a release, and All-single on all categories."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from alignguard_data.contracts.protocols import Progress
from alignguard_data.release.hard_rows import hard_rows
from alignguard_data.release.reader import release_folder, train_rows
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import scratch
from alignguard_data.storage.shards import write_bytes
from alignguard_data.storage.tally import Tally
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.cost_model.reader import costs_input
from alignguard_train.experts.reader import ROOM

if TYPE_CHECKING:
    from alignguard_train.adapters.lora import Lora
    from alignguard_train.experts.trainer import TrainedExpert

TENSORBOARD = "tensorboard"
FORMAT = 3
"""Part of the fingerprint: raise it when an expert's files or its training change."""


def spec(
    data: DataRoot,
    key: str,
    categories: Sequence[str],
    base: BaseModel,
    recipe: ExpertRecipe,
    *,
    seed: int,
    others: Sequence[str] = (),
) -> PartitionSpec:
    """Spec of one expert.

    Args:
        data: the data folder.
        key: the expert's partition.
        categories: categories of its pairs.
        base: the base model.
        recipe: how it is trained.
        seed: of the training.
        others: categories for ``recipe.preserve_others``.

    Returns:
        The spec of its partition.

    Raises:
        InputMissing: there is no release, or no cost model of it that the recipe needs.
    """
    config = recipe.fingerprint_fields
    costs = costs_input(data) if recipe.cost_margin else {}
    read = list(categories)
    if config.pop("preserve_others") and others:
        read += others
        config |= {"preserve_others": recipe.preserve_others, "others": list(others)}
    return PartitionSpec(
        folder=data.partition(ROOM, key),
        room=ROOM,
        key=key,
        config={
            **config,
            **base.training,
            **basis(ROOM, format=FORMAT, engine=base),
            "categories": list(categories),
            "seed": seed,
        },
        inputs={**train_rows(data, read), **costs},
        models=base.models,
    )


def make_expert(
    data: DataRoot,
    key: str,
    categories: Sequence[str],
    base: BaseModel,
    recipe: ExpertRecipe,
    *,
    seed: int,
    processes: int = 1,
    held_out_ip: "Callable[[Lora], float] | None" = None,
    progress: Progress | None = None,
    others: Sequence[str] = (),
) -> Manifest:
    """Train one expert on the release's train pairs of ``categories``, unless it is up to date.

    Hard negatives are left out: hardening goes on with them from here.

    The partition holds the adapter in diffusers' format and, for a UNet, in kohya's, a model card
    and the table "history"; TensorBoard's files are next to them and enter no content id. With
    several ``processes`` each takes its share of every step, on its own GPU where there are GPUs.

    Args:
        data: the data folder.
        key: the expert's partition.
        categories: categories of its pairs.
        base: the base model.
        recipe: how it is trained.
        seed: of the training.
        processes: number of processes.
        held_out_ip: measures an adapter's IP on held-out prompts.
        progress: called with the number of steps just finished.
        others: categories for ``recipe.preserve_others``.

    Returns:
        The partition's manifest.

    Raises:
        InputMissing: there is no release.
        PartitionBusy: another process is training the same expert.
        EngineError: nothing to train on, NaN, or divergence of the chosen side.
    """
    wanted = spec(data, key, categories, base, recipe, seed=seed, others=others)
    with open_partition(wanted) as work:
        if work.done:
            return work.done
        from alignguard_train.experts.job import ExpertJob, train_job
        from alignguard_train.experts.margins import margin_counts

        job = ExpertJob(
            data=data,
            categories=tuple(categories),
            base=base,
            recipe=recipe,
            seed=seed,
            checkpoint=work.partial / "checkpoint.safetensors",
            tensorboard=board_of(data, key, work.spec.fingerprint),
            others=tuple(others),
            repeats=dict.fromkeys(hard_rows(release_folder(data)), 0),
        )
        trained, pairs = train_job(job, processes, held_out_ip, progress)
        return _finish(data, work, trained, pairs, base, margin_counts(data, categories, recipe))


def _finish(
    data: DataRoot,
    work: PartitionWork,
    trained: "TrainedExpert",
    pairs: int,
    base: BaseModel,
    margins: Mapping[str, float],
) -> Manifest:
    """Write adapter, card and history; the counts have the means of the last ten steps."""
    from alignguard_train.experts.trainer import HISTORY

    columns = {"step": pa.array(range(len(trained.history)), pa.int64())}
    for i, name in enumerate(HISTORY):
        columns[name] = pa.array(trained.history[:, i].numpy())
    last = dict(zip(HISTORY, trained.history[-10:].mean(dim=0).tolist(), strict=True))
    return work.finish(
        tables={"history": pa.table(columns)},
        extra_files=_files(data, work, trained.lora, base),
        counts={
            "release": release_folder(data).name,
            "release_content_id": manifests.require(data.partition("release")).content_id,
            "pairs": pairs,
            "resumed_at_step": trained.resumed_at,
            **margins,
            **{f"last {name}": round(value, 5) for name, value in last.items()},
        },
        tally=Tally(wanted=pairs, made=pairs, unit="pairs"),
    )


def _files(data: DataRoot, work: PartitionWork, lora: "Lora", base: BaseModel) -> dict[str, Path]:
    """Both formats and the card: partition file name to temporary path."""
    from alignguard_train.adapters import lora as adapter
    from alignguard_train.adapters.card import expert_metadata, render_expert_card

    metadata = expert_metadata(
        release=manifests.require(data.partition("release")),
        base_model=base.model_id,
        base_revision=base.revision,
        expert=work.spec.key,
        recipe=work.spec.config,
    )
    kohya = [adapter.KOHYA_WEIGHTS] if adapter.has_kohya(lora) else []
    files = {name: work.partial / name for name in (adapter.WEIGHTS, *kohya, "README.md")}
    adapter.save_lora(lora, files[adapter.WEIGHTS], metadata)
    for name in kohya:
        adapter.save_kohya(lora, files[name], metadata)
    write_bytes(files["README.md"], render_expert_card(metadata, kohya=bool(kohya)).encode())
    return files


def board_of(data: DataRoot, key: str, fingerprint: str) -> Path:
    """Local TensorBoard folder of one expert with this ``fingerprint``."""
    return scratch(data.partition(ROOM, key)) / TENSORBOARD / fingerprint
