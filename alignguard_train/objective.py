"""What one micro-batch of pairs costs: Diffusion-DPO, its remedies and the alternatives."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignguard_data.backends.conditions import Conditions, concatenated
from alignguard_train import loss as losses
from alignguard_train.base import BaseModel
from alignguard_train.recipes import ExpertRecipe

ERRORS = ("e_w", "e_l", "e_w_ref", "e_l_ref")


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRows:
    """Pairs as a step sees them: latents of both images, conditions of both captions, and one
    timestep (rows,) and one noise (rows, channels, h, w) that both images share."""

    chosen: Tensor
    rejected: Tensor
    unsafe: Conditions
    safe: Conditions
    t: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return len(self.chosen)


def objective(
    base: BaseModel, rows: PairRows, recipe: ExpertRecipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and what is worth watching, as means over the rows.

    Up to three branches share one forward pass: (chosen, unsafe prompt), (rejected, unsafe
    prompt) and, with preservation, (chosen, safe prompt). The reference is the same UNet with
    its adapter off.
    """
    noisy, t, conditions, target = _branches(base, rows, recipe)
    unet = base.pipe.unet
    arguments = conditions.unet_arguments(**base.pixels(noisy))
    with _precision(unet):
        unet.disable_adapters()
        with torch.no_grad():
            reference = unet(noisy, t, **arguments, return_dict=False)[0].float()
        unet.enable_adapters()
        predicted = unet(noisy, t, **arguments, return_dict=False)[0].float()
    count = len(rows)
    w, l = slice(0, count), slice(count, 2 * count)  # noqa: E741 (the paper's letters)
    rejected = predicted[l]
    if recipe.safeguard is not None:
        away_w, away_l = (predicted[w] - target[w]).detach(), (predicted[l] - target[l]).detach()
        scale = losses.safeguard_scale(away_w, away_l, mu=recipe.safeguard)
        rejected = losses.scaled_gradient(rejected, scale)
    weight = _weight(base, rows.t, recipe)
    errors = (
        losses.per_row_error(predicted[w], target[w]) * weight,
        losses.per_row_error(rejected, target[l]) * weight,
        losses.per_row_error(reference[w], target[w]) * weight,
        losses.per_row_error(reference[l], target[l]) * weight,
    )
    preference = _preference(errors, recipe)
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
    """Noisy latents, timesteps, conditions and targets of all branches, one after the other."""
    scheduler: Any = base.pipe.scheduler
    kind = losses.prediction_type_of(scheduler)
    steps = scheduler.config.num_train_timesteps
    alphas = None if kind == "flow" else scheduler.alphas_cumprod.to(rows.chosen.device)
    latents, parts = [rows.chosen, rows.rejected], [rows.unsafe, rows.unsafe]
    if recipe.preservation:
        latents, parts = [*latents, rows.chosen], [*parts, rows.safe]
    count = len(parts)
    x0, t = torch.cat(latents), rows.t.repeat(count)
    noise = rows.noise.repeat(count, 1, 1, 1)
    noisy = losses.add_noise(x0, noise, t, alphas, steps=steps)
    if recipe.preservation and recipe.preservation_at == "last":
        last = torch.arange(len(x0), device=t.device) >= 2 * len(rows)
        t = torch.where(last, steps - 1, t)
        noisy = torch.where(last[:, None, None, None], noise, noisy)
    target = losses.prediction_target(kind, x0, noise, t, alphas).float()
    return noisy, t, concatenated(parts), target


def _preference(errors: tuple[Tensor, Tensor, Tensor, Tensor], recipe: ExpertRecipe) -> Tensor:
    if recipe.method == "sft":
        return errors[0].mean()
    if recipe.focal:
        return losses.focal_dpo_loss(*errors, beta=recipe.beta, gamma=recipe.focal)
    return losses.dpo_loss(*errors, beta=recipe.beta)


def _weight(base: BaseModel, t: Tensor, recipe: ExpertRecipe) -> Tensor:
    if recipe.min_snr is None:
        return torch.ones_like(t, dtype=torch.float32)
    scheduler: Any = base.pipe.scheduler
    v = losses.prediction_type_of(scheduler) == "v_prediction"
    alphas = scheduler.alphas_cumprod.to(t.device)
    return losses.min_snr_weight(t, alphas, gamma=recipe.min_snr, v=v)


def _precision(unet: Any) -> AbstractContextManager[object]:
    """The base model in its own precision; the adapter's weights stay float32."""
    if unet.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(unet.device.type, dtype=unet.dtype)
