"""Trains one LoRA expert with Diffusion-DPO; killed at any step, it resumes to the same bytes.

All randomness of a step comes from (seed, step), so that nothing but adapter, optimizer and
step number has to be kept.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alignguard_data.errors import EngineError
from alignguard_data.protocols import Progress
from alignguard_train import loss as losses
from alignguard_train.adapter import Lora, LoraLayer
from alignguard_train.base import LORA_TARGETS, BaseModel
from alignguard_train.dataset import EncodedPreferences
from alignguard_train.recipes import ExpertRecipe

log = logging.getLogger(__name__)

HISTORY = (
    "loss", "dpo", "preservation", "margin", "implicit_accuracy",
    "e_w", "e_l", "e_w_ref", "e_l_ref", "grad_norm", "lr",
)  # fmt: skip
RUNAWAY_STEPS = 20
_ADAPTER = "expert"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedExpert:
    """The adapter, and one row a step: ``history`` is float64 (steps, len(HISTORY))."""

    lora: Lora
    history: Tensor
    resumed_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """What one step trains on: everything has one row a pair."""

    index: Tensor
    t: Tensor
    noise: Tensor
    drop: Tensor


def train_expert(
    base: BaseModel,
    encoded: EncodedPreferences,
    recipe: ExpertRecipe,
    *,
    seed: int,
    checkpoint: Path,
    progress: Progress | None = None,
) -> TrainedExpert:
    """Train one adapter on ``encoded``; ``progress`` counts steps.

    The reference is the same UNet with the adapter off. ``checkpoint`` is one file, replaced
    every ``recipe.checkpoint_every`` steps.

    Raises:
        EngineError: no pair to train on, NaN, or a runaway error of the chosen side.
    """
    if not len(encoded):
        raise EngineError("there is no pair to train on: the release has none of this category")
    with _adapter_on(base, recipe, seed) as parameters:
        optimizer = torch.optim.AdamW(
            list(parameters.values()), lr=recipe.lr, weight_decay=recipe.weight_decay
        )
        history = _restore(checkpoint, parameters, optimizer)
        resumed_at = len(history)
        if resumed_at and progress:
            progress(resumed_at)
        for step in range(resumed_at, recipe.steps):
            history.append(_step(base, encoded, recipe, parameters, optimizer, seed, step))
            _refuse_nonsense(history, recipe, step)
            if (step + 1) % recipe.checkpoint_every == 0:
                _keep(checkpoint, parameters, optimizer, history)
            if progress:
                progress(1)
        return TrainedExpert(
            lora=_lora_of(parameters),
            history=torch.tensor(history, dtype=torch.float64),
            resumed_at=resumed_at,
        )


def _step(
    base: BaseModel,
    encoded: EncodedPreferences,
    recipe: ExpertRecipe,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    seed: int,
    step: int,
) -> list[float]:
    rows = _draw(encoded, recipe, base.pipe.scheduler.config.num_train_timesteps, seed, step)
    lr = learning_rate(recipe, step)
    for group in optimizer.param_groups:
        group["lr"] = lr
    total, measured = _losses(base, encoded, recipe, rows)
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_(list(parameters.values()), recipe.clip)
    optimizer.step()
    values = {**measured, "loss": total.detach(), "grad_norm": norm, "lr": lr}
    return [float(values[name]) for name in HISTORY]


def _losses(
    base: BaseModel, encoded: EncodedPreferences, recipe: ExpertRecipe, rows: _Rows
) -> tuple[Tensor, dict[str, Any]]:
    """The step's loss and what is worth watching; three branches share one forward pass:
    (chosen, unsafe prompt), (rejected, unsafe prompt), (chosen, safe prompt)."""
    unet, config = base.pipe.unet, base.pipe.scheduler.config
    alphas = base.pipe.scheduler.alphas_cumprod.to(unet.device)
    chosen, rejected = encoded.chosen[rows.index], encoded.rejected[rows.index]
    unsafe = torch.where(rows.drop[:, None, None], encoded.empty, encoded.unsafe[rows.index])
    states = torch.cat([unsafe, unsafe, encoded.safe[rows.index]])
    latents = torch.cat([chosen, rejected, chosen])
    t, noise = rows.t.repeat(3), rows.noise.repeat(3, 1, 1, 1)
    noisy = losses.add_noise(latents, noise, t, alphas)
    target = losses.prediction_target(config.prediction_type, latents, noise, t, alphas)
    unet.disable_adapters()
    with torch.no_grad():
        reference = unet(noisy, t, states, return_dict=False)[0]
    unet.enable_adapters()
    predicted = unet(noisy, t, states, return_dict=False)[0]
    e_w, e_l, _ = losses.per_row_error(predicted, target).chunk(3)
    e_w_ref, e_l_ref, _ = losses.per_row_error(reference, target).chunk(3)
    errors = (e_w, e_l, e_w_ref, e_l_ref)
    dpo = losses.dpo_loss(*errors, beta=recipe.beta)
    kept = losses.preservation_loss(predicted.chunk(3)[2], reference.chunk(3)[2])
    measured = {
        "dpo": dpo.detach(),
        "preservation": kept.detach(),
        "margin": losses.dpo_margin(*errors).mean().detach(),
        "implicit_accuracy": losses.implicit_accuracy(*errors),
        **{
            name: value.mean().detach()
            for name, value in zip(("e_w", "e_l", "e_w_ref", "e_l_ref"), errors, strict=True)
        },
    }
    return dpo + recipe.preservation * kept, measured


def learning_rate(recipe: ExpertRecipe, step: int) -> float:
    """Linear warm-up, then linear to ``lr_floor`` of the peak at the last step."""
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    rest = max(1, recipe.steps - recipe.warmup_steps)
    done = (step - recipe.warmup_steps) / rest
    return recipe.lr * (1 - (1 - recipe.lr_floor) * done)


def _draw(
    encoded: EncodedPreferences, recipe: ExpertRecipe, timesteps: int, seed: int, step: int
) -> _Rows:
    """The step's pairs (each once an epoch, epochs shuffled anew), timesteps and noise; both
    images of a pair share timestep and noise."""
    number, size = len(encoded), recipe.batch_size
    places = range(step * size, (step + 1) * size)
    index = torch.cat([_epoch(number, seed, p // number)[p % number][None] for p in places])
    generator = _generator("step", seed, step)
    t = torch.randint(timesteps, (size,), generator=generator)
    noise = torch.randn((size, *encoded.chosen.shape[1:]), generator=generator)
    drop = torch.rand(size, generator=generator) < recipe.caption_dropout
    where = encoded.chosen.device
    return _Rows(
        index=index.to(where),
        t=t.to(where),
        noise=noise.to(where, encoded.chosen.dtype),
        drop=drop.to(where),
    )


def _epoch(number: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(number, generator=_generator("epoch", seed, epoch))


def _generator(what: str, seed: int, number: int) -> torch.Generator:
    digest = hashlib.blake2b(f"{what} {seed} {number}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest) >> 1)


@contextmanager
def _adapter_on(
    base: BaseModel, recipe: ExpertRecipe, seed: int
) -> Iterator[dict[str, nn.Parameter]]:
    """Put a fresh adapter on the UNet (gaussian down, zero up) and take it off at the end."""
    unet = base.pipe.unet
    unet.add_adapter(
        LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.rank,
            init_lora_weights="gaussian",
            target_modules=list(LORA_TARGETS),
        ),
        adapter_name=_ADAPTER,
    )
    try:
        parameters = {n: p for n, p in unet.named_parameters() if f".{_ADAPTER}." in n}
        generator = _generator("init", seed, 0)
        for name, parameter in parameters.items():
            if "lora_A" in name:
                # peft draws from the global generator; ours makes the start depend on the seed.
                drawn = torch.randn(parameter.shape, generator=generator) / recipe.rank
                parameter.data.copy_(drawn)
            parameter.requires_grad_(True)
        yield parameters
    finally:
        unet.delete_adapters(_ADAPTER)


def _lora_of(parameters: dict[str, nn.Parameter]) -> Lora:
    down = {n.split(".lora_A.")[0]: p for n, p in parameters.items() if ".lora_A." in n}
    up = {n.split(".lora_B.")[0]: p for n, p in parameters.items() if ".lora_B." in n}
    return {n: LoraLayer(down[n].detach().clone(), up[n].detach().clone()) for n in sorted(down)}


def _refuse_nonsense(history: list[list[float]], recipe: ExpertRecipe, step: int) -> None:
    last = dict(zip(HISTORY, history[-1], strict=True))
    if not all(torch.isfinite(torch.tensor(list(last.values())))):
        raise EngineError(
            f"training met NaN or infinity at step {step} (loss {last['loss']}); the checkpoint "
            "of the step before stands; lower lr or beta, or raise preservation"
        )
    if len(history) < RUNAWAY_STEPS:
        return
    recent = torch.tensor(history[-RUNAWAY_STEPS:]).mean(dim=0)
    e_w, ref = recent[HISTORY.index("e_w")], recent[HISTORY.index("e_w_ref")]
    if e_w > recipe.max_winner_ratio * ref:
        raise EngineError(
            f"the chosen side's error ran away by step {step}: {e_w:.3g} against the reference's "
            f"{ref:.3g}; lower beta or lr, or raise preservation"
        )


def _keep(
    checkpoint: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    history: list[list[float]],
) -> None:
    tensors = {"history": torch.tensor(history, dtype=torch.float64)}
    for name, parameter in parameters.items():
        tensors[f"parameter {name}"] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key} {name}"] = value
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    # Renamed but not synced: it outlives a killed process, which is what a step is worth.
    temporary = checkpoint.with_suffix(".tmp")
    save_file(tensors, temporary)
    os.replace(temporary, checkpoint)


def _restore(
    checkpoint: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> list[list[float]]:
    if not checkpoint.exists():
        return []
    tensors = load_file(checkpoint)
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"parameter {name}"])
        optimizer.state[parameter] = {
            key: tensors[f"{key} {name}"] for key in ("step", "exp_avg", "exp_avg_sq")
        }
    return tensors["history"].tolist()
