"""Trains one expert in this process or in several, from a picklable job."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from alignguard_data.contracts.protocols import Progress
from alignguard_data.storage.paths import DataRoot
from alignguard_train.adapters.lora import Lora, load_lora, save_lora
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.cost_model.reader import costs_of
from alignguard_train.encodings.encoder import EncodedPreferences
from alignguard_train.encodings.room import shared_encodings
from alignguard_train.experts.processes import Group, run_together
from alignguard_train.experts.trainer import TrainedExpert, train_expert


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertJob:
    """A training job: model, data, recipe and output paths.

    Attributes:
        data: the data root, with the release and its encodings.
        categories: keys of those that it is trained on.
        base: the base model.
        recipe: how to train.
        seed: of the start and of every draw.
        checkpoint: file that holds the state of a killed training.
        tensorboard: folder of every step's scalars; None writes none.
    """

    data: DataRoot
    categories: tuple[str, ...]
    base: BaseModel
    recipe: ExpertRecipe
    seed: int
    checkpoint: Path
    tensorboard: Path | None = None
    others: tuple[str, ...] = ()
    """Categories whose pairs the recipe preserves; read only if it uses them."""
    repeats: Mapping[str, int] = field(default_factory=dict)
    """How often a pair is a row, by its id: once where it is not named."""
    start: Path | None = None
    """Adapter file to go on from."""


def train_job(
    job: ExpertJob,
    processes: int,
    held_out_ip: Callable[[Lora], float] | None = None,
    progress: Progress | None = None,
) -> tuple[TrainedExpert, int]:
    """Train an expert in one process or several.

    With several processes ``held_out_ip`` is not measured: its generator would need a second base
    model on the first GPU.

    Args:
        job: what to train, and where its files go.
        processes: number of processes.
        held_out_ip: measures an adapter's IP on held-out prompts.
        progress: called with the number of steps just finished.

    Returns:
        The expert, and its number of pairs.

    Raises:
        EngineError: see :func:`train_expert`, or a process ended.
    """
    if processes == 1:
        encoded = _encoded(job)
        trained = train_expert(
            job.base,
            encoded,
            job.recipe,
            seed=job.seed,
            checkpoint=job.checkpoint,
            tensorboard=job.tensorboard,
            held_out_ip=held_out_ip,
            progress=progress,
            start=_start(job),
            others=_others(job),
        )
        return trained, len(encoded)
    shared = replace(job, base=job.base.unloaded())
    run_together(
        _train_share, (shared,), number=processes, on_gpus=job.base.on_gpu, progress=progress
    )
    result = _result(job)
    trained = TrainedExpert(
        lora=load_lora(result[0]),
        history=(kept := load_file(result[1]))["history"],
        resumed_at=int(kept["numbers"][0]),
    )
    return trained, int(kept["numbers"][1])


def _train_share(group: Group, report: Progress | None, job: ExpertJob) -> None:
    base = job.base.unloaded(gpu=group.rank) if job.base.on_gpu else job.base
    job = replace(job, base=base)
    encoded = _encoded(job)
    trained = train_expert(
        base,
        encoded,
        job.recipe,
        seed=job.seed,
        checkpoint=job.checkpoint,
        tensorboard=job.tensorboard,
        progress=report,
        group=group,
        start=_start(job),
        others=_others(job),
    )
    if group.rank == 0:
        lora, history = _result(job)
        save_lora(trained.lora, lora)
        numbers = torch.tensor([trained.resumed_at, len(encoded)])
        save_file({"history": trained.history, "numbers": numbers}, history)


def _encoded(job: ExpertJob) -> EncodedPreferences:
    costs = costs_of(job.data) if job.recipe.cost_margin else None
    return shared_encodings(
        job.data, job.base, job.categories, flip=job.recipe.flip, repeats=job.repeats, costs=costs
    )


def _start(job: ExpertJob) -> Lora | None:
    return load_lora(job.start) if job.start else None


def _others(job: ExpertJob) -> EncodedPreferences | None:
    if not (job.others and job.recipe.preserve_others):
        return None
    return shared_encodings(job.data, job.base, job.others, flip=False, repeats=job.repeats)


def _result(job: ExpertJob) -> tuple[Path, Path]:
    """Files to which the first process writes adapter and history."""
    folder = job.checkpoint.parent
    return folder / "trained.safetensors", folder / "trained_history.safetensors"
