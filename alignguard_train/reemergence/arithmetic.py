"""Sums of a base model's weights and adapters, and how far one change undoes another.

With W0 the base model, s the safety adapter and f what a fine-tuning adds, "Safety Alignment
Backfires" (arXiv 2412.00357) asks what W0 + s - f and W0 - s draw: if fine-tuning learned to undo
the safety adapter, f points along -s.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from alignguard_train.adapters.lora import Lora, LoraLayer

Deltas = Mapping[str, Tensor]
"""Change of each layer's weight, by the layer's name in the denoiser."""


def summed(adapter: Lora, other: Lora, *, weight: float = 1.0) -> Lora:
    """The adapter whose deltas are those of ``adapter`` plus ``weight`` times the other's.

    The factors are put side by side, so the sum is exact, at the sum of both ranks; a layer that
    only one of them has is kept.

    Args:
        adapter: LoRA layers by name; each has down (rank, in) and up (out, rank).
        other: likewise.
        weight: factor of ``other``.

    Returns:
        LoRA layers by name, sorted.
    """
    found = {}
    for name in sorted(set(adapter) | set(other)):
        parts = [adapter[name]] if name in adapter else []
        if name in other:
            parts.append(LoraLayer(other[name].down, other[name].up * weight))
        found[name] = LoraLayer(
            torch.cat([part.down for part in parts]), torch.cat([part.up for part in parts], dim=1)
        )
    return found


@contextmanager
def folded(denoiser: Any, adapter: Lora, *, weight: float = 1.0) -> Iterator[None]:
    """Add an adapter's deltas to the denoiser's own weights inside the block.

    It works under a trainable adapter too, whose layers wrap the weights. The exit restores the
    weights bit for bit.

    Args:
        denoiser: a UNet or transformer.
        adapter: LoRA layers by name.
        weight: factor of the deltas.

    Yields:
        Nothing.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for name, layer in adapter.items():
                held = own_weight(denoiser, name)
                kept.append((held, held.detach().clone()))
                delta = layer.delta.to(held.device, torch.float32).reshape(held.shape)
                held.copy_(held.float() + weight * delta)
        yield
    finally:
        with torch.no_grad():
            for held, before in kept:
                held.copy_(before)


def own_weight(denoiser: Any, layer: str) -> Tensor:
    """A layer's own weight, under a trainable adapter or without one.

    Args:
        denoiser: a UNet or transformer.
        layer: the layer's name.

    Returns:
        The parameter.

    Raises:
        AttributeError: there is no such layer, or it has no weight.
    """
    module = denoiser.get_submodule(layer)
    inner = getattr(module, "base_layer", module)
    return inner.weight


def own_weights(denoiser: Any) -> dict[str, nn.Parameter]:
    """Every parameter of a denoiser by its plain name.

    A trainable adapter that was taken off leaves its layers wrapped, under other names.

    Args:
        denoiser: a UNet or transformer without a trainable adapter.

    Returns:
        The parameters.
    """
    return {name.replace(".base_layer.", "."): p for name, p in denoiser.named_parameters()}


def unfit_layers(denoiser: Any, adapter: Lora) -> list[str]:
    """What of an adapter does not fit a denoiser.

    Args:
        denoiser: a UNet or transformer.
        adapter: LoRA layers by name.

    Returns:
        One text per layer that is not there or has another shape.
    """
    found = []
    for name, layer in adapter.items():
        wanted = (layer.up.shape[0], layer.down.shape[1])
        try:
            held = own_weight(denoiser, name)
        except AttributeError:
            found.append(f"{name} is no layer of it")
            continue
        has = (held.shape[0], held[0].numel())
        if has != wanted:
            found.append(f"{name} is {has[0]} x {has[1]} there, {wanted[0]} x {wanted[1]} here")
    return found


def deltas(adapter: Lora) -> dict[str, Tensor]:
    """Deltas (outputs, inputs) of an adapter by layer."""
    return {name: layer.delta.float() for name, layer in adapter.items()}


def undoing(change: Deltas, safety: Deltas) -> float:
    """Cosine of a change with the negative safety adapter, over the layers that both have.

    Args:
        change: what a fine-tuning added.
        safety: the safety adapter's deltas.

    Returns:
        1 where the change undoes the adapter, 0 where they have nothing in common, -1 where it
        goes further along it; 0 too where one of them is zero.
    """
    both = [name for name in safety if name in change]
    product = sum(float((change[n].flatten() * safety[n].flatten()).sum()) for n in both)
    lengths = length(change, both) * length(safety, both)
    return -product / lengths if lengths else 0.0


def undone_share(change: Deltas, safety: Deltas) -> float:
    """How much of the safety adapter a change takes away: -<f, s> / <s, s> over common layers.

    Args:
        change: what a fine-tuning added.
        safety: the safety adapter's deltas.

    Returns:
        1 where the change cancels the adapter along its own direction, 0 where it leaves it.
    """
    both = [name for name in safety if name in change]
    product = sum(float((change[n].flatten() * safety[n].flatten()).sum()) for n in both)
    size = length(safety, both) ** 2
    return -product / size if size else 0.0


def length(change: Deltas, layers: list[str] | None = None) -> float:
    """Frobenius norm over the named layers, or over all.

    Args:
        change: deltas by layer.
        layers: names; None: all.

    Returns:
        The norm.
    """
    names = list(change) if layers is None else layers
    return sum(float(change[name].pow(2).sum()) for name in names) ** 0.5


def header_of(file: Path) -> dict[str, str]:
    """Metadata of a safetensors file; empty if it has none."""
    with safe_open(file, framework="pt") as tensors:
        return tensors.metadata() or {}
