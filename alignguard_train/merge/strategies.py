"""Merges experts into one adapter: Co-Merge (arXiv 2412.10493) and its baselines, pure tensors.

Co-Merge and the average are stored exactly, as an ordinary LoRA of rank K r: the experts' down
matrices stacked, their up matrices side by side. TIES, DARE and magnitude pruning change single
weights, so their deltas have full rank; they are stored by SVD at rank K r.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.linalg import eigh
from torch import Tensor

from alignguard_train.adapters.lora import Lora, LoraLayer, truncate
from alignguard_train.merge.config import MergeConfig, Strategy, Unit

Activity = dict[str, Tensor]
"""Layer name to (experts, outputs): activation of each expert at each output neuron."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """A merged adapter.

    Attributes:
        lora: LoRA layers by name.
        winners: index of the winning expert for each output, (outputs,), by layer; empty but for
            strategies that choose.
    """

    lora: Lora
    winners: dict[str, Tensor]


def merge(
    strategy: Strategy, experts: Sequence[Lora], activity: Activity, config: MergeConfig
) -> Merged:
    """Merge by strategy name; only Co-Merge reads ``activity``.

    Args:
        strategy: its name.
        experts: LoRA layers by name; each has down (rank, in) and up (out, rank).
        activity: mean size of each layer's outputs, (experts, outputs), by layer.
        config: unit, density, scale and seed, for the strategies that have them.

    Returns:
        The merged LoRA, and the winners of strategies that choose.

    Raises:
        ValueError: no expert, experts of different shape, or a strategy that needs the base model
            (``regmean``, see :mod:`alignguard_train.merge.regmean`).
    """
    _check(experts)
    if strategy == "regmean":
        raise ValueError(
            "regmean needs the base model's inputs: call alignguard_train.merge.regmean"
        )
    count = len(experts)
    if strategy in ("co-merge", "random"):
        winners = (
            {name: winner(activity[name], config.unit) for name in experts[0]}
            if strategy == "co-merge"
            else random_winners(experts, config.seed)
        )
        return Merged(lora=co_merge(experts, winners), winners=winners)
    simple: dict[str, Callable[[], Lora]] = {
        "average": lambda: weighted_sum(experts, [1 / count] * count),
        "sum": lambda: weighted_sum(experts, [config.sum_scale] * count),
        "svd": lambda: svd(experts, config.sum_scale),
        "ties": lambda: ties(experts, config.density),
        "dare": lambda: dare(experts, config.density, config.seed, config.sum_scale),
        "magnitude": lambda: magnitude(experts, config.density, config.sum_scale),
    }
    return Merged(lora=simple[strategy](), winners={})


def random_winners(experts: Sequence[Lora], seed: int) -> dict[str, Tensor]:
    """A random expert per output row: a control for Co-Merge's choice at equal sparsity.

    Args:
        experts: LoRA layers by name; each has down (rank, in) and up (out, rank).
        seed: of the choice.

    Returns:
        Index of an expert for each output row, int64 (out,), by layer.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(len(experts), experts[0][name].up.shape[:1], generator=generator)
        for name in sorted(experts[0])
    }


def winner(activity: Tensor, unit: Unit) -> Tensor:
    """Index of the most active expert for each output: (experts, outputs) to (outputs,).

    With unit ``layer`` one expert wins the whole layer, by its mean over outputs.

    Args:
        activity: mean size of each output, (experts, outputs).
        unit: what is won as a whole.

    Returns:
        Index of the winning expert, int64 (outputs,).
    """
    if unit == "layer":
        return activity.mean(dim=1).argmax().repeat(activity.shape[1])
    return activity.argmax(dim=0)


def co_merge(experts: Sequence[Lora], winners: dict[str, Tensor]) -> Lora:
    """delta[i, :] = delta_{k*[i]}[i, :], stored exactly (docs/method.md).

    Args:
        experts: LoRA layers by name; each has down (rank, in) and up (out, rank).
        winners: index of the winning expert for each output row, (out,), by layer.

    Returns:
        One LoRA with the same layers; its rank may be larger.
    """
    merged = {}
    for name in experts[0]:
        won = winners[name]
        ups = [
            lora[name].up * (won == k).to(lora[name].up.dtype)[:, None]
            for k, lora in enumerate(experts)
        ]
        merged[name] = LoraLayer(
            torch.cat([lora[name].down for lora in experts]), torch.cat(ups, 1)
        )
    return merged


def weighted_sum(experts: Sequence[Lora], weights: Sequence[float]) -> Lora:
    """Sum of the experts' deltas times their weights, stored exactly.

    Args:
        experts: LoRA layers by name; each has down (rank, in) and up (out, rank).
        weights: one for each expert.

    Returns:
        One LoRA with the same layers; its rank may be larger.
    """
    return {
        name: LoraLayer(
            torch.cat([lora[name].down for lora in experts]),
            torch.cat([lora[name].up * w for lora, w in zip(experts, weights, strict=True)], 1),
        )
        for name in experts[0]
    }


def svd(experts: Sequence[Lora], scale: float) -> Lora:
    """The scaled sum, cut to the rank of one expert (the ``svd`` combination of peft).

    Args:
        experts: LoRA layers by name; each has down (rank, in) and up (out, rank).
        scale: factor of the sum.

    Returns:
        One LoRA of the rank of one expert.
    """
    rank = max(layer.down.shape[0] for lora in experts for layer in lora.values())
    return truncate(weighted_sum(experts, [scale] * len(experts)), rank)


def magnitude(experts: Sequence[Lora], density: float, scale: float) -> Lora:
    """Keep each expert's largest weights and sum them, scaled (magnitude pruning).

    Args:
        experts: LoRA layers by name; each has down (rank, in) and up (out, rank).
        density: share of the weights that is kept, in (0, 1].
        scale: factor of the sum.

    Returns:
        One LoRA with the same layers; its rank may be larger.
    """
    merged = {}
    for name in experts[0]:
        total = sum(_largest(lora[name].delta, density) for lora in experts)
        assert isinstance(total, Tensor)
        merged[name] = _as_layer(total * scale, _total_rank(experts, name))
    return merged


def ties(experts: Sequence[Lora], density: float) -> Lora:
    """TIES (arXiv 2306.01708).

    Keep each expert's largest weights, elect a sign for each weight, average the experts that agree
    with it.

    Args:
        experts: LoRA layers by name; each has down (rank, in) and up (out, rank).
        density: share of the weights that is kept, in (0, 1].

    Returns:
        One LoRA with the same layers; its rank may be larger.
    """
    merged = {}
    for name in experts[0]:
        deltas = torch.stack([_largest(lora[name].delta, density) for lora in experts])
        sign = deltas.sum(dim=0).sign()
        agree = (deltas.sign() == sign) & (deltas != 0)
        mean = (deltas * agree).sum(dim=0) / agree.sum(dim=0).clamp(min=1)
        merged[name] = _as_layer(mean, _total_rank(experts, name))
    return merged


def dare(experts: Sequence[Lora], density: float, seed: int, scale: float) -> Lora:
    """DARE (arXiv 2311.03099).

    Drop weights at random, rescale the rest, sum the experts, scaled (its Equation 4 merges by task
    arithmetic, whose coefficient ``scale`` is).

    Uses its own random generator.

    Args:
        experts: LoRA layers by name; each has down (rank, in) and up (out, rank).
        density: share of the weights that is kept, in (0, 1].
        seed: of the random mask.
        scale: factor of the sum.

    Returns:
        One LoRA with the same layers; its rank may be larger.
    """
    generator = torch.Generator().manual_seed(seed)
    merged = {}
    for name in sorted(experts[0]):
        total = torch.zeros_like(experts[0][name].delta)
        for lora in experts:
            delta = lora[name].delta
            kept = torch.rand(delta.shape, generator=generator) < density
            total += delta * kept / density
        merged[name] = _as_layer(total * scale, _total_rank(experts, name))
    return merged


def _largest(delta: Tensor, density: float) -> Tensor:
    keep = max(1, round(density * delta.numel()))
    size = delta.abs()
    threshold = size.flatten().kthvalue(size.numel() - keep + 1).values
    return torch.where(size >= threshold, delta, torch.zeros_like(delta))


def _as_layer(delta: Tensor, rank: int) -> LoraLayer:
    """The best layer of a rank (Eckart-Young): the delta projected on its first singular vectors.

    Computes only the last eigenvectors of the delta's square: a full decomposition of a 1280 x 1280
    layer takes six times as long. Squaring in float64 loses less than float32 precision.
    """
    wide = delta.double() if delta.shape[0] <= delta.shape[1] else delta.double().T
    size = len(wide)
    first = [size - min(rank, size), size - 1]
    found = eigh((wide @ wide.T).numpy(), subset_by_index=first)[1]
    basis = torch.from_numpy(found).flip(1)
    rest = basis.T @ wide
    root = rest.norm(dim=1).sqrt()  # of the singular values
    down, up = rest / root.clamp(min=torch.finfo(root.dtype).tiny)[:, None], basis * root
    if wide.shape != delta.shape:
        down, up = up.T, down.T
    return LoraLayer(down.to(delta.dtype).contiguous(), up.to(delta.dtype).contiguous())


def _total_rank(experts: Sequence[Lora], name: str) -> int:
    return sum(lora[name].down.shape[0] for lora in experts)


def _check(experts: Sequence[Lora]) -> None:
    if not experts:
        raise ValueError("there is no expert to merge")
    shapes = [{n: (x.up.shape[0], x.down.shape[1]) for n, x in lora.items()} for lora in experts]
    for k, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(f"expert {k} was trained on other layers than expert 0")
