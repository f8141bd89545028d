"""LoRA adapters as plain tensors, and as files that diffusers' `load_lora_weights` reads.

Alpha always equals the rank (scale 1), so a file needs no metadata to mean what it says.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alignguard_data.errors import IntegrityError

WEIGHTS = "pytorch_lora_weights.safetensors"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """One layer's delta = up @ down: down (rank, inputs), up (outputs, rank)."""

    down: Tensor
    up: Tensor

    @property
    def delta(self) -> Tensor:
        """The change of the layer's weight: (outputs, inputs)."""
        return self.up @ self.down


Lora = dict[str, LoraLayer]
"""Layers by their module's name inside the UNet."""


def save_lora(lora: Lora, path: Path) -> None:
    """Write an adapter in diffusers' format; equal tensors give equal bytes."""
    tensors = {}
    for name in sorted(lora):
        tensors[f"unet.{name}{_DOWN}"] = lora[name].down.detach().float().cpu().contiguous()
        tensors[f"unet.{name}{_UP}"] = lora[name].up.detach().float().cpu().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def load_lora(path: Path) -> Lora:
    """Read an adapter of a UNet.

    Raises:
        IntegrityError: the file is unreadable or is not such an adapter.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} is not a readable safetensors file: {error}") from error
    names = {k.removeprefix("unet.").removesuffix(_DOWN) for k in tensors if k.endswith(_DOWN)}
    wanted = {f"unet.{name}{end}" for name in names for end in (_DOWN, _UP)}
    if not names or wanted != set(tensors):
        odd = sorted(wanted ^ set(tensors))[:3]
        raise IntegrityError(f"{path} is not a LoRA of a UNet alone: {odd}")
    return {
        name: LoraLayer(tensors[f"unet.{name}{_DOWN}"], tensors[f"unet.{name}{_UP}"])
        for name in sorted(names)
    }


def relative_error(found: Lora, wanted: Lora) -> float:
    """Frobenius norm of the difference of all deltas, over that of the wanted ones."""
    off = sum(float((found[n].delta - wanted[n].delta).pow(2).sum()) for n in wanted)
    size = sum(float(wanted[n].delta.pow(2).sum()) for n in wanted)
    return (off / size) ** 0.5 if size else 0.0


def truncate(lora: Lora, rank: int) -> Lora:
    """The best adapter of a lower rank, layer by layer (SVD; Eckart-Young)."""
    out = {}
    for name, layer in lora.items():
        u, s, v = torch.linalg.svd(layer.delta.double(), full_matrices=False)
        root = s[:rank].sqrt()
        out[name] = LoraLayer(
            (root[:, None] * v[:rank]).to(layer.down.dtype), (u[:, :rank] * root).to(layer.up.dtype)
        )
    return out
