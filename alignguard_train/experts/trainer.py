"""Trains a module on the base model with Diffusion-DPO; a killed one resumes to the same bytes.

A step's randomness derives from (seed, step), so a checkpoint needs only adapter, optimizer and
step number, and several processes can share a step.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_train.adapters.live import LiveAdapter, live_adapter
from alignguard_train.adapters.lora import Lora
from alignguard_train.adapters.trainable import Trainable
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings.encoder import EncodedPreferences
from alignguard_train.experts.batches import draw
from alignguard_train.experts.checkpoint import keep, restore
from alignguard_train.experts.margins import with_margins
from alignguard_train.experts.monitor import RUNAWAY_STEPS, ran_away, refuse_nonsense, scalars
from alignguard_train.experts.objective import objective
from alignguard_train.experts.processes import ONE_PROCESS, Group
from alignguard_train.experts.unfit import unfit

HISTORY = (
    "loss", "dpo", "preservation", "margin", "implicit_accuracy",
    "e_w", "e_l", "e_w_ref", "e_l_ref", "grad_norm", "lr",
)  # fmt: skip


Weights = TypeVar("Weights")
Attach = Callable[[BaseModel, ExpertRecipe, int], AbstractContextManager[Trainable[Weights]]]
"""Puts a new module on the base model by recipe and seed, and takes it off at the end."""


@dataclass(frozen=True, kw_only=True)
class TrainedModule(Generic[Weights]):
    """A trained module and its history.

    Attributes:
        weights: of the module.
        history: float64 (steps, len(HISTORY)), one row per step.
        resumed_at: steps that a checkpoint already held; 0 if there was none.
    """

    weights: Weights
    history: Tensor
    resumed_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedExpert:
    """A trained adapter and its history.

    Attributes:
        lora: the adapter.
        history: float64 (steps, len(HISTORY)), one row per step.
        resumed_at: steps that a checkpoint already held; 0 if there was none.
    """

    lora: Lora
    history: Tensor
    resumed_at: int


def train_expert(
    base: BaseModel,
    encoded: EncodedPreferences,
    recipe: ExpertRecipe,
    *,
    seed: int,
    checkpoint: Path,
    progress: Progress | None = None,
    tensorboard: Path | None = None,
    held_out_ip: Callable[[Lora], float] | None = None,
    group: Group = ONE_PROCESS,
    start: Lora | None = None,
    others: EncodedPreferences | None = None,
) -> TrainedExpert:
    """Train one adapter. The reference is the denoiser without adapter.

    Args:
        base: the base model.
        encoded: the pairs to train on.
        recipe: how to train.
        seed: of the adapter's start and of every draw.
        checkpoint: one file, replaced every ``recipe.checkpoint_every`` steps.
        progress: called with the number of steps just finished.
        tensorboard: folder for every step's scalars.
        held_out_ip: measures an adapter's IP, every ``recipe.watch_ip_every`` steps.
        group: this process among those that train together; the first writes the checkpoint.
        start: adapter of the recipe's rank and layers to continue from.
        others: pairs that ``recipe.preserve_others`` preserves.

    Returns:
        The adapter, and one row of numbers per step.

    Raises:
        EngineError: there is no pair, the base model is float16, ``start`` does not fit the recipe,
            NaN, or the chosen side diverged.
    """
    trained = train_module(
        base,
        encoded,
        recipe,
        partial(_adapter, start=start),
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
        tensorboard=tensorboard,
        held_out=held_out_ip,
        group=group,
        others=others,
    )
    return TrainedExpert(
        lora=trained.weights, history=trained.history, resumed_at=trained.resumed_at
    )


@contextmanager
def _adapter(
    base: BaseModel, recipe: ExpertRecipe, seed: int, *, start: Lora | None
) -> Iterator[LiveAdapter]:
    with live_adapter(base, recipe, seed) as adapter:
        if start:
            adapter.go_on_from(start)
        yield adapter


def train_module(
    base: BaseModel,
    encoded: EncodedPreferences,
    recipe: ExpertRecipe,
    attach: Attach[Weights],
    *,
    seed: int,
    checkpoint: Path,
    progress: Progress | None = None,
    tensorboard: Path | None = None,
    held_out: Callable[[Weights], float] | None = None,
    group: Group = ONE_PROCESS,
    others: EncodedPreferences | None = None,
) -> TrainedModule[Weights]:
    """Train the module that ``attach`` puts on the base model.

    Args:
        base: the base model, which is also the reference.
        encoded: the pairs to train on.
        recipe: how to train.
        attach: puts the module on the base model within a block.
        seed: of the module's start and of every draw.
        checkpoint: one file, replaced every ``recipe.checkpoint_every`` steps.
        progress: called with the number of steps just finished.
        tensorboard: folder for every step's scalars.
        held_out: measures the weights, every ``recipe.watch_ip_every`` steps.
        group: this process among those that train together; the first writes the checkpoint.
        others: pairs that ``recipe.preserve_others`` preserves.

    Returns:
        The weights, and one row of numbers per step.

    Raises:
        EngineError: there is no pair, the base model is float16, the recipe's costs are missing,
            NaN, or the chosen side diverged.
    """
    _check_trainable(base, encoded, recipe, group)
    encoded = with_margins(encoded, recipe)
    base.check_training()
    if faults := unfit(recipe, base.family, base.model_id, flow=base.is_flow):
        raise EngineError("; ".join(faults))
    first = group.rank == 0
    with base.products(), attach(base, recipe, seed) as adapter:
        optimizer = _optimizer(list(adapter.parameters.values()), recipe)
        history = restore(checkpoint, adapter.parameters, optimizer)
        resumed_at = kept = len(history)
        if resumed_at and progress:
            progress(resumed_at)
        with scalars(tensorboard if first else None, resumed_at) as board:
            for step in range(resumed_at, recipe.steps):
                history.append(
                    _step(base, encoded, others, recipe, adapter, optimizer, seed, step, group)
                )
                recent = [_named(row) for row in history[-RUNAWAY_STEPS:]]
                board.step(step, recent[-1])
                refuse_nonsense(recent, recipe, step=step, kept=kept)
                if (step + 1) % recipe.checkpoint_every == 0 and not ran_away(recent[-1], recipe):
                    kept = step + 1
                    if first:
                        board.flush()
                        keep(checkpoint, adapter.parameters, optimizer, history)
                every = recipe.watch_ip_every
                if first and held_out and every and (step + 1) % every == 0:
                    board.held_out(step, held_out(adapter.weights()))
                if progress:
                    progress(1)
        return TrainedModule(
            weights=adapter.weights(),
            history=torch.tensor(history, dtype=torch.float64),
            resumed_at=resumed_at,
        )


def _check_trainable(
    base: BaseModel, encoded: EncodedPreferences, recipe: ExpertRecipe, group: Group
) -> None:
    if not len(encoded):
        raise EngineError("no pair to train on: the release has none of this category")
    if next(base.denoiser.parameters()).dtype == torch.float16:
        raise EngineError(
            "training in float16 needs a gradient scaler, which is not supported: use tf32, "
            "bfloat16 or float32"
        )
    if recipe.focusing and group.size > 1:
        raise EngineError(
            f"focusing ({recipe.focusing:g}) compares the pairs of one forward pass, which "
            f"{group.size} processes would divide: train in one process"
        )
    if recipe.clean_pairs and len(encoded) < 2:
        raise EngineError(f"clean_pairs ({recipe.clean_pairs:g}) needs two pairs, and there is one")


def _named(row: list[float]) -> dict[str, float]:
    return dict(zip(HISTORY, row, strict=True))


def _step(
    base: BaseModel,
    encoded: EncodedPreferences,
    others: EncodedPreferences | None,
    recipe: ExpertRecipe,
    adapter: Trainable[Any],
    optimizer: torch.optim.Optimizer,
    seed: int,
    step: int,
    group: Group,
) -> list[float]:
    lr = learning_rate(recipe, step)
    for part in optimizer.param_groups:
        part["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for rows in draw(base, encoded, recipe, seed, step, group, others):
        # Weighted by its share of the step's pairs, so parts of any size add up to the mean.
        share = len(rows) / (recipe.batch_size * recipe.accumulation)
        loss, measured = objective(base, rows, recipe, adapter)
        (loss * share).backward()
        for name, value in {**measured, "loss": loss.detach()}.items():
            sums[name] = sums.get(name, 0) + value * share
    trained = list(adapter.parameters.values())
    group.sum_gradients(trained)
    norm = nn.utils.clip_grad_norm_(trained, recipe.clip)
    optimizer.step()
    values = {**group.sum_values(sums), "grad_norm": norm, "lr": lr}
    return [float(values[name]) for name in HISTORY]


def _optimizer(parameters: list[nn.Parameter], recipe: ExpertRecipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        # All weights in one call, instead of a Python loop over hundreds of small ones.
        return torch.optim.AdamW(
            parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, foreach=True
        )
    from transformers.optimization import Adafactor

    return Adafactor(
        parameters,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        relative_step=False,
        scale_parameter=False,
    )


def learning_rate(recipe: ExpertRecipe, step: int) -> float:
    """Linear warm-up, then linear to ``lr_floor`` of the peak at the last step."""
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    rest = max(1, recipe.steps - 1 - recipe.warmup_steps)
    done = (step - recipe.warmup_steps) / rest
    return recipe.lr * (1 - (1 - recipe.lr_floor) * done)
