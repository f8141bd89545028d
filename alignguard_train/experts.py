"""The experts room: one LoRA expert a category from a release, and All-single on all of them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from alignguard_data import manifest as manifests
from alignguard_data.manifest import Manifest
from alignguard_data.partition import PartitionSpec, open_partition
from alignguard_data.paths import DataRoot
from alignguard_data.protocols import Progress
from alignguard_train.base import BaseModel
from alignguard_train.evaluation_room import release_folder
from alignguard_train.recipes import ExpertRecipe

ROOM = "experts"


def spec(
    data: DataRoot,
    key: str,
    categories: Sequence[str],
    base: BaseModel,
    recipe: ExpertRecipe,
    *,
    seed: int,
) -> PartitionSpec:
    """What one expert should be made of; ``key`` is its partition.

    Raises:
        InputMissing: there is no release.
    """
    release = manifests.require(data.partition("release"))
    config = dataclasses.asdict(recipe)
    config.pop("checkpoint_every")  # how often it is kept changes no weight
    return PartitionSpec(
        folder=data.partition(ROOM, key),
        room=ROOM,
        key=key,
        config={**config, "categories": list(categories), "seed": seed},
        inputs={"release": release.content_id},
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
    progress: Progress | None = None,
) -> Manifest:
    """Train one expert on the release's train pairs of ``categories``, unless it is done.

    Raises:
        InputMissing: there is no release.
        PartitionBusy: another process trains the same expert.
        EngineError: nothing to train on, NaN, or a runaway error of the chosen side.
    """
    wanted = spec(data, key, categories, base, recipe, seed=seed)
    with open_partition(wanted) as work:
        if work.done:
            return work.done
        from alignguard_train.adapter import WEIGHTS, save_lora
        from alignguard_train.encodings import shared_encodings
        from alignguard_train.expert import HISTORY, train_expert

        encoded = shared_encodings(data, base, categories, flip=recipe.flip)
        trained = train_expert(
            base,
            encoded,
            recipe,
            seed=seed,
            checkpoint=work.partial / "checkpoint.safetensors",
            progress=progress,
        )
        weights = work.partial / WEIGHTS
        save_lora(trained.lora, weights)
        columns = {"step": pa.array(range(len(trained.history)), pa.int64())}
        for i, name in enumerate(HISTORY):
            columns[name] = pa.array(trained.history[:, i].numpy())
        last = dict(zip(HISTORY, trained.history[-10:].mean(dim=0).tolist(), strict=True))
        return work.finish(
            tables={"history": pa.table(columns)},
            extra_files={WEIGHTS: weights},
            counts={
                "release": release_folder(data).name,
                "pairs": len(encoded),
                "resumed_at_step": trained.resumed_at,
                **{f"last {name}": round(value, 5) for name, value in last.items()},
            },
        )


def weights_of(data: DataRoot, key: str) -> Path:
    """The LoRA file of a finished expert.

    Raises:
        InputMissing: it was not trained yet.
    """
    folder = data.partition(ROOM, key)
    return folder / manifests.require(folder).file("pytorch_lora_weights").name
