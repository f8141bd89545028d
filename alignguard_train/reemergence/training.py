"""Benign fine-tuning of a base model with a safety adapter, in three ways; resumable.

It minimizes the plain denoising error on images and captions. A step's randomness derives from
(seed, step), so a killed training resumes to the same weights, and a longer training passes
through the same weights as a shorter one.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_train.adapters.live import live_adapter
from alignguard_train.adapters.lora import Lora
from alignguard_train.base import BaseModel
from alignguard_train.contracts.noise import noised, seeded
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.experts.checkpoint import keep, restore
from alignguard_train.reemergence.arithmetic import Deltas, deltas, folded, own_weights
from alignguard_train.reemergence.benign import EncodedRows
from alignguard_train.reemergence.config import TuningRecipe, Variant

RECENT = 20
"""Steps over which the training's error is averaged."""
LOSS_DRAWS = 8
"""Timesteps, evenly spaced, at which each held-out image is noised for the benign loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """A fine-tuning at one of its steps; its tensors are live, and change with the next step.

    Attributes:
        steps: finished steps.
        train_loss: mean error of the last :data:`RECENT` steps.
        lora: the new adapter; None where all weights were trained.
        weights: all weights by name, where all were trained; else empty.
        changes: change of each layer's weight that the fine-tuning made, by layer.
    """

    steps: int
    train_loss: float
    lora: Lora | None
    weights: Mapping[str, Tensor]
    changes: Deltas


@dataclass(frozen=True, kw_only=True, slots=True)
class _Module:
    parameters: dict[str, nn.Parameter]
    lora: Callable[[], Lora] | None
    before: Mapping[str, Tensor]


def fine_tune(
    base: BaseModel,
    rows: EncodedRows,
    recipe: TuningRecipe,
    variant: Variant,
    *,
    safety: Lora,
    seed: int,
    steps: int,
    checkpoint: Path,
    at: Callable[[Tuned], None],
    measured: frozenset[int],
    progress: Progress | None = None,
) -> None:
    """Fine-tune on benign rows, and hand over the state at some of its steps.

    The base model's weights are as before at the end.

    Args:
        base: the base model.
        rows: what to train on.
        recipe: how to train.
        variant: what is trained, and whether the safety adapter is under it.
        safety: the safety adapter.
        seed: of the new adapter's start and of every draw.
        steps: when it ends.
        checkpoint: one file, replaced every ``recipe.checkpoint_every`` steps.
        at: called with the state after each step of ``measured``, before a later checkpoint is
            written; again after a resumption, if that falls before the step.
        measured: step counts.
        progress: called with the number of steps just finished.

    Raises:
        EngineError: the base model is float16, or the error is not finite.
    """
    if next(base.denoiser.parameters()).dtype == torch.float16:
        raise EngineError(
            "fine-tuning in float16 needs a gradient scaler, which is not supported: use tf32, "
            "bfloat16 or float32"
        )
    with base.products(), _module(base, recipe, variant, safety, seed) as module:
        lr = recipe.full_lr if variant == "full" else recipe.lr
        optimizer = torch.optim.AdamW(
            list(module.parameters.values()), lr=lr, weight_decay=recipe.weight_decay, foreach=True
        )
        history = restore(checkpoint, module.parameters, optimizer)
        if history and progress:
            progress(len(history))
        for step in range(len(history), steps):
            history.append([_step(base, rows, recipe, module, optimizer, lr, seed, step)])
            done = step + 1
            if done in measured:
                at(_tuned(module, done, history))
            if done % recipe.checkpoint_every == 0 or done == steps:
                keep(checkpoint, module.parameters, optimizer, history)
            if progress:
                progress(1)


def _tuned(module: _Module, done: int, history: list[list[float]]) -> Tuned:
    recent = [row[0] for row in history[-RECENT:]]
    lora = module.lora() if module.lora else None
    weights: dict[str, Tensor] = {}
    if lora is None:
        weights = {name: p.detach() for name, p in module.parameters.items()}
        changes: Deltas = {
            name.removesuffix(".weight"): weights[name].float() - before
            for name, before in module.before.items()
        }
    else:
        changes = deltas(lora)
    return Tuned(
        steps=done,
        train_loss=sum(recent) / len(recent),
        lora=lora,
        weights=weights,
        changes=changes,
    )


@contextmanager
def _module(
    base: BaseModel, recipe: TuningRecipe, variant: Variant, safety: Lora, seed: int
) -> Iterator[_Module]:
    """What is trained, on the base model; everything is taken off at the end."""
    with ExitStack() as stack:
        if variant != "modular":
            stack.enter_context(folded(base.denoiser, safety))
        if variant == "full":
            yield stack.enter_context(_all_weights(base, recipe, safety))
            return
        shape = ExpertRecipe(rank=recipe.rank, gradient_checkpointing=recipe.gradient_checkpointing)
        live = stack.enter_context(live_adapter(base, shape, seed))
        yield _Module(parameters=live.parameters, lora=live.weights, before={})


@contextmanager
def _all_weights(base: BaseModel, recipe: TuningRecipe, safety: Lora) -> Iterator[_Module]:
    """Every weight of the denoiser, trainable; restored at the end."""
    denoiser = base.denoiser
    parameters = own_weights(denoiser)
    kept = {name: p.detach().clone() for name, p in parameters.items()}
    wanted = {f"{layer}.weight" for layer in safety}
    if recipe.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        before = {name: kept[name].float() for name in wanted}
        yield _Module(parameters=parameters, lora=None, before=before)
    finally:
        denoiser.disable_gradient_checkpointing()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.requires_grad_(False)
                parameter.grad = None
                parameter.copy_(kept[name])


def _step(
    base: BaseModel,
    rows: EncodedRows,
    recipe: TuningRecipe,
    module: _Module,
    optimizer: torch.optim.Optimizer,
    lr: float,
    seed: int,
    step: int,
) -> float:
    for part in optimizer.param_groups:
        part["lr"] = lr * min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else lr
    optimizer.zero_grad(set_to_none=True)
    size = recipe.batch_size
    places = range(step * size, (step + 1) * size)
    index = torch.cat(
        [_epoch(len(rows), seed, p // len(rows))[p % len(rows)][None] for p in places]
    )
    generator = seeded("fine-tuning step", seed, step)
    t = torch.randint(_timesteps(base), (size,), generator=generator)
    noise = torch.randn((size, *rows.latents.shape[1:]), generator=generator)
    drop = torch.rand(size, generator=generator) < recipe.caption_dropout
    captions = rows.captions[index].replaced(drop, rows.empty)
    loss = _errors(base, rows.latents[index], captions, t, noise).mean()
    error = float(loss.detach())
    if not math.isfinite(error):
        raise EngineError(f"fine-tuning: the error is {error} at step {step + 1}: lower lr")
    loss.backward()
    nn.utils.clip_grad_norm_(list(module.parameters.values()), recipe.clip)
    optimizer.step()
    return error


def _epoch(number: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(number, generator=seeded("fine-tuning epoch", seed, epoch))


def _timesteps(base: BaseModel) -> int:
    return int(base.pipe.scheduler.config.num_train_timesteps)


def _errors(base: BaseModel, latents: Tensor, captions: Any, t: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of each row's prediction, (rows,)."""
    # The first of all parameters is the base model's own, in its precision.
    first = next(base.denoiser.parameters())
    where = first.device
    x0, noise, t = latents.to(where, torch.float32), noise.to(where, torch.float32), t.to(where)
    noisy, time, target = noised(base.pipe.scheduler, x0, noise, t)
    arguments = base.arguments(captions.to(where, first.dtype), noisy)
    with _precision(first):
        predicted = base.predict(noisy, time, arguments).float()
    return (predicted - target.float()).pow(2).flatten(1).mean(dim=1)


def _precision(weight: Tensor) -> AbstractContextManager[object]:
    if weight.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(weight.device.type, dtype=weight.dtype)


@torch.no_grad()
def benign_losses(base: BaseModel, rows: EncodedRows) -> list[float]:
    """Denoising error of each held-out row, of the denoiser as it is.

    The same noise and timesteps for every model, so that losses can be compared row by row.

    Args:
        base: the base model.
        rows: held-out rows.

    Returns:
        Mean over :data:`LOSS_DRAWS` timesteps, for each row.
    """
    total = torch.zeros(len(rows))
    timesteps = _timesteps(base)
    with base.products():
        for draw in range(LOSS_DRAWS):
            generator = seeded("benign loss", 0, draw)
            noise = torch.randn(tuple(rows.latents.shape), generator=generator)
            t = torch.full((len(rows),), int((draw + 0.5) * timesteps / LOSS_DRAWS))
            for part in torch.arange(len(rows)).split(16):
                total[part] += _errors(
                    base, rows.latents[part], rows.captions[part], t[part], noise[part]
                ).cpu()
    return (total / LOSS_DRAWS).tolist()
