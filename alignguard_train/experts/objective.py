"""Loss of one micro-batch of pairs: Diffusion-DPO, its remedies and the alternatives."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Conditions, concatenated
from alignguard_train.adapters.trainable import Trainable
from alignguard_train.base import BaseModel
from alignguard_train.contracts import noise as noise_process
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.experts import loss as losses
from alignguard_train.experts.batches import PairRows

ERRORS = ("e_w", "e_l", "e_w_ref", "e_l_ref")


def objective(
    base: BaseModel, rows: PairRows, recipe: ExpertRecipe, adapter: Trainable[Any]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the monitored values, as means over the rows.

    Up to three branches share one forward pass: (chosen, unsafe prompt), (rejected, unsafe prompt)
    and, with preservation, the preserved rows. The reference is the denoiser with its adapter off.
    """
    noisy, t, conditions, target = _branches(base, rows, recipe)
    conditions = adapter.conditioned(conditions, rows.about)
    arguments = base.arguments(conditions, noisy)
    with _precision(base.denoiser):
        with torch.no_grad(), adapter.off():
            reference = base.predict(noisy, t, arguments).float()
        predicted = base.predict(noisy, t, arguments).float()
    count = len(rows)
    w, l = slice(0, count), slice(count, 2 * count)  # noqa: E741 (the paper's letters)
    rejected = predicted[l]
    if recipe.safeguard is not None:
        away_w, away_l = (predicted[w] - target[w]).detach(), (predicted[l] - target[l]).detach()
        scale = losses.safeguard_scale(away_w, away_l, mu=recipe.safeguard)
        rejected = losses.scaled_gradient(rejected, scale)
    weight = _weight(base, rows, recipe)
    errors = (
        losses.per_row_error(predicted[w], target[w]) * weight,
        losses.per_row_error(rejected, target[l]) * weight,
        losses.per_row_error(reference[w], target[w]) * weight,
        losses.per_row_error(reference[l], target[l]) * weight,
    )
    preference = _preference(errors, rows, recipe)
    kept = torch.zeros((), device=preference.device)
    if recipe.preservation:
        kept = losses.preservation_loss(predicted[2 * count :], reference[2 * count :])
    measured = {
        "dpo": preference.detach(),
        "preservation": kept.detach(),
        "margin": losses.dpo_margin(*errors).mean().detach(),
        "implicit_accuracy": losses.implicit_accuracy(*errors),
        **{name: e.mean().detach() for name, e in zip(ERRORS, errors, strict=True)},
    }
    return preference + recipe.preservation * kept, measured


def _branches(
    base: BaseModel, rows: PairRows, recipe: ExpertRecipe
) -> tuple[Tensor, Tensor, Conditions, Tensor]:
    """Noisy latents, the denoiser's time inputs, conditions and targets of all branches."""
    latents, parts = [rows.chosen, rows.rejected], [rows.unsafe, rows.unsafe]
    if recipe.preservation:
        latents, parts = [*latents, rows.kept], [*parts, rows.kept_caption]
    x0, t = torch.cat(latents), rows.t.repeat(len(parts))
    noise = rows.noise.repeat(len(parts), 1, 1, 1)
    noisy, time, target = base.noised(x0, noise, t)
    if recipe.preservation and recipe.preservation_at == "last":
        last = torch.arange(len(x0), device=t.device) >= 2 * len(rows)
        end = base.noised(x0, noise, _last(base, t))[1]
        time = torch.where(last, end, time)
        noisy = torch.where(last[:, None, None, None], noise, noisy)
    return noisy, time, concatenated(parts), target.float()


def _last(base: BaseModel, t: Tensor) -> Tensor:
    scheduler: Any = base.pipe.scheduler
    return torch.full_like(t, scheduler.config.num_train_timesteps - 1)


def _preference(
    errors: tuple[Tensor, Tensor, Tensor, Tensor], rows: PairRows, recipe: ExpertRecipe
) -> Tensor:
    if recipe.method == "sft":
        return losses.sft_loss(errors[0])
    gap = torch.zeros_like(errors[0]) if rows.cost_gap is None else rows.cost_gap
    margin = losses.cost_margin(gap, most=recipe.margin_max)
    return losses.cost_dpo_loss(*errors, beta=recipe.beta, margin=margin, gamma=recipe.focusing)


def _weight(base: BaseModel, rows: PairRows, recipe: ExpertRecipe) -> Tensor:
    scheduler: Any = base.pipe.scheduler
    kind = noise_process.prediction_type_of(scheduler)
    if kind == "flow" and base.flow:
        steps = scheduler.config.num_train_timesteps
        sigma = base.noised(rows.chosen, rows.noise, rows.t)[1] / steps
        return noise_process.flow_weight(sigma, base.flow)
    if recipe.min_snr is None:
        return torch.ones_like(rows.t, dtype=torch.float32)
    alphas = scheduler.alphas_cumprod.to(rows.t.device)
    return losses.min_snr_weight(rows.t, alphas, gamma=recipe.min_snr, v=kind == "v_prediction")


def _precision(denoiser: Any) -> AbstractContextManager[object]:
    """Autocast to the base model's precision; the adapter's weights stay float32."""
    first = next(denoiser.parameters())  # not an adapter weight; `.dtype` walks every module
    if first.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(first.device.type, dtype=first.dtype)
