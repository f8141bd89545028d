"""Pairs, timesteps and noise of a training step: a function of seed and step only."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.base import BaseModel
from alignguard_train.contracts.noise import seeded
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings.encoder import EncodedPreferences
from alignguard_train.experts.processes import ONE_PROCESS, Group


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRows:
    """One step's pairs.

    Latents of both images, conditions of the unsafe caption, and one timestep (rows,) and one noise
    (rows, channels, h, w) that both images share. ``kept`` and ``kept_caption`` are to be
    preserved: chosen image and safe caption, or another category's. Latents and noise are float32
    for every base model. ``about``: what a trained module reads of a row besides its caption.
    ``cost_gap``: cost of the rejected image less that of the chosen one, in logits (rows,). A clean
    row has the safe caption in ``unsafe``, and another pair's safe image as ``rejected``.
    """

    chosen: Tensor
    rejected: Tensor
    unsafe: Conditions
    kept: Tensor
    kept_caption: Conditions
    t: Tensor
    noise: Tensor
    about: Tensor | None = None
    cost_gap: Tensor | None = None

    def __len__(self) -> int:
        return len(self.chosen)


def draw(
    base: BaseModel,
    encoded: EncodedPreferences,
    recipe: ExpertRecipe,
    seed: int,
    step: int,
    group: Group = ONE_PROCESS,
    others: EncodedPreferences | None = None,
) -> Iterator[PairRows]:
    """This process's micro-batches of the step.

    Each pair occurs once per epoch, and every epoch is reshuffled. Both images of a pair share
    timestep, noise and flip. ``others``: pairs from which ``recipe.preserve_others`` of the
    preserved rows are taken.
    """
    number, size = len(encoded), recipe.batch_size * recipe.accumulation
    places = range(step * size, (step + 1) * size)
    index = torch.cat([_epoch(number, seed, p // number)[p % number][None] for p in places])
    generator = seeded("step", seed, step)
    height, width = encoded.chosen.shape[2:]
    t = base.timesteps(size, generator, t_max=recipe.t_max, size=(height, width))
    noise = torch.randn((size, *encoded.chosen.shape[1:]), generator=generator)
    drop = torch.rand(size, generator=generator) < recipe.caption_dropout
    flip = torch.rand(size, generator=generator) < 0.5
    # Drawn last, so a recipe without others draws the same as before.
    away = torch.rand(size, generator=generator) < (recipe.preserve_others if others else 0)
    other = torch.randint(len(others) if others else 1, (size,), generator=generator)
    bad = torch.rand(size, generator=generator) < 0.5
    clean = torch.rand(size, generator=generator) < recipe.clean_pairs
    apart = torch.randint(max(1, number - 1), (size,), generator=generator)
    first = next(base.denoiser.parameters())  # not an adapter weight
    where, dtype = first.device, first.dtype
    for rows in group.share_of(torch.arange(size)).split(recipe.batch_size):
        pairs = index[rows]
        swapped, another = clean[rows], (pairs + 1 + apart[rows]) % number
        prompts, chosen, rejected = (
            encoded.unsafe[pairs],
            *(_side(encoded, name, pairs, flip[rows], recipe) for name in ("chosen", "rejected")),
        )
        if swapped.any():
            prompts = prompts.replaced(swapped, encoded.safe[pairs])
            safe = _side(encoded, "chosen", another, flip[rows], recipe)
            rejected = torch.where(swapped[:, None, None, None], safe, rejected)
        unsafe = prompts.replaced(drop[rows], encoded.empty)
        kept, caption = chosen, encoded.safe[pairs]
        if recipe.preservation_prompt == "empty":
            caption = encoded.empty.repeat(len(pairs))
        if others and away[rows].any():
            there, worse = _either_side(others, other[rows], bad[rows])
            kept = torch.where(away[rows, None, None, None], there, kept)
            caption = caption.replaced(away[rows], worse)
        yield PairRows(
            chosen=chosen.to(where, torch.float32),
            rejected=rejected.to(where, torch.float32),
            unsafe=unsafe.to(where, dtype),
            kept=kept.to(where, torch.float32),
            kept_caption=caption.to(where, dtype),
            t=t[rows].to(where),
            noise=noise[rows].to(where, torch.float32),
            about=None if encoded.about is None else encoded.about[pairs].to(where),
            cost_gap=_cost_gap(encoded, pairs, another, swapped, where),
        )


def _cost_gap(
    encoded: EncodedPreferences, pairs: Tensor, another: Tensor, clean: Tensor, where: torch.device
) -> Tensor | None:
    """Cost of the rejected image less that of the chosen one; both are safe where ``clean``."""
    if encoded.costs is None:
        return None
    safe, unsafe = encoded.costs.unbind(dim=1)
    return (torch.where(clean, safe[another], unsafe[pairs]) - safe[pairs]).to(where)


def _either_side(
    others: EncodedPreferences, pairs: Tensor, bad: Tensor
) -> tuple[Tensor, Conditions]:
    """Rejected image and unsafe caption where ``bad`` (rows,), else the chosen side."""
    images = torch.where(bad[:, None, None, None], others.rejected[pairs], others.chosen[pairs])
    return images, others.safe[pairs].replaced(bad, others.unsafe[pairs])


def _side(
    encoded: EncodedPreferences, name: str, pairs: Tensor, flip: Tensor, recipe: ExpertRecipe
) -> Tensor:
    plain: Tensor = getattr(encoded, name)[pairs]
    if not recipe.flip:
        return plain
    mirrored = getattr(encoded, f"{name}_flipped")
    if mirrored is None:
        raise EngineError("the recipe flips images, but the mirrored ones were not encoded")
    return torch.where(flip[:, None, None, None], mirrored[pairs], plain)


def _epoch(number: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(number, generator=seeded("epoch", seed, epoch))
