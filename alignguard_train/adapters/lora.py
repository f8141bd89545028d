"""LoRA adapters as plain tensors, and as files that diffusers' `load_lora_weights` reads.

Alpha always equals the rank (scale 1), so a file needs no metadata to be read correctly.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.engines.families.registry import denoiser_of, denoisers
from alignguard_data.storage.shards import write_bytes

WEIGHTS = "pytorch_lora_weights.safetensors"
KOHYA_WEIGHTS = "kohya_lora.safetensors"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """One layer's change of its weight, ``up @ down``.

    Attributes:
        down: (rank, inputs).
        up: (outputs, rank).
    """

    down: Tensor
    up: Tensor

    @property
    def delta(self) -> Tensor:
        """The change of the layer's weight: (outputs, inputs)."""
        return self.up @ self.down


Lora = dict[str, LoraLayer]
"""Layers by their module's name in the denoiser."""


def save_lora(lora: Lora, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write an adapter in diffusers' format; equal tensors and metadata give equal bytes.

    Args:
        lora: LoRA layers by name.
        path: the file.
        metadata: for the file's header, as read by `safetensors.safe_open(...).metadata()`.
    """
    tensors, denoiser = {}, denoiser_of(lora)
    for name in sorted(lora):
        tensors[f"{denoiser}.{name}{_DOWN}"] = lora[name].down.detach().float().cpu().contiguous()
        tensors[f"{denoiser}.{name}{_UP}"] = lora[name].up.detach().float().cpu().contiguous()
    write_tensors(tensors, path, metadata)


def has_kohya(lora: Lora) -> bool:
    """Whether kohya's format has names for these layers: it has, for a UNet's.

    For transformers it splits and joins layers otherwise; ComfyUI reads diffusers' format of those.

    Args:
        lora: LoRA layers by name.

    Returns:
        True for a UNet's layers.
    """
    return denoiser_of(lora) == "unet"


def save_kohya(lora: Lora, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write an adapter in the format of kohya-ss and ComfyUI.

    ``lora_unet_<module>.lora_down``, ``.lora_up`` and ``.alpha`` (the rank, so the scale is 1).

    Args:
        lora: LoRA layers by name.
        path: the file.
        metadata: for the file's header.
    """
    tensors = {}
    for name in sorted(lora):
        key, layer = f"lora_unet_{name.replace('.', '_')}", lora[name]
        tensors[f"{key}.lora_down.weight"] = layer.down.detach().float().cpu().contiguous()
        tensors[f"{key}.lora_up.weight"] = layer.up.detach().float().cpu().contiguous()
        tensors[f"{key}.alpha"] = torch.tensor(float(layer.down.shape[0]))
    write_tensors(tensors, path, metadata)


def load_kohya(path: Path, modules: Iterable[str]) -> Lora:
    """Read an adapter in kohya's format, the inverse of :func:`save_kohya`.

    An alpha other than the rank is multiplied into the up matrices.

    Args:
        path: a local safetensors file.
        modules: the UNet's module names, since kohya's keys replace their dots by underscores.

    Returns:
        LoRA layers by name, sorted; each has down (rank, in) and up (out, rank).

    Raises:
        IntegrityError: the file is unreadable, has layers of other modules, or incomplete layers.
    """
    tensors = read_tensors(path)
    lora, known = {}, {f"lora_unet_{name.replace('.', '_')}": name for name in modules}
    found = {key.partition(".")[0] for key in tensors}
    ends = ("lora_down.weight", "lora_up.weight", "alpha")
    wanted = {f"{key}.{end}" for key in found for end in ends}
    odd = sorted((wanted ^ set(tensors)) | {key for key in found if key not in known})
    if odd or not found:
        raise IntegrityError(f"{path} is not a kohya LoRA of this UNet only: {odd[:3]}")
    for key in found:
        down, up, alpha = (tensors[f"{key}.{end}"] for end in ends)
        lora[known[key]] = LoraLayer(down, up * (float(alpha) / down.shape[0]))
    return dict(sorted(lora.items()))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Args:
        path: the file.

    Returns:
        Tensors by name.

    Raises:
        IntegrityError: it cannot be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} is not a readable safetensors file: {error}") from error


def write_tensors(
    tensors: dict[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file whose metadata is sorted, so equal content has equal bytes.

    The library writes it in the order of a hash table, which differs between processes.

    Args:
        tensors: contiguous tensors of the CPU by name.
        path: the file to write.
        metadata: for the file's header.
    """
    plain = save(tensors)
    size = int.from_bytes(plain[:8], "little")
    known = {"format": "pt", **(metadata or {})}
    header = {"__metadata__": dict(sorted(known.items())), **json.loads(plain[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    write_bytes(path, len(text).to_bytes(8, "little") + text + plain[8 + size :])


def load_lora(path: Path) -> Lora:
    """Read an adapter of one denoiser, a UNet or a transformer, in diffusers' format.

    Args:
        path: a local safetensors file.

    Returns:
        LoRA layers by name, sorted; each has down (rank, in) and up (out, rank).

    Raises:
        IntegrityError: the file is unreadable, or is not a LoRA of one denoiser only.
    """
    tensors = read_tensors(path)
    part = next(
        (name for name in denoisers() if any(k.startswith(f"{name}.") for k in tensors)), ""
    )
    names = {k.removeprefix(f"{part}.").removesuffix(_DOWN) for k in tensors if k.endswith(_DOWN)}
    wanted = {f"{part}.{name}{end}" for name in names for end in (_DOWN, _UP)}
    if not names or wanted != set(tensors):
        odd = sorted(wanted ^ set(tensors))[:3]
        raise IntegrityError(f"{path} is not a LoRA of one {' or '.join(denoisers())} only: {odd}")
    return {
        name: LoraLayer(tensors[f"{part}.{name}{_DOWN}"], tensors[f"{part}.{name}{_UP}"])
        for name in sorted(names)
    }


def relative_error(found: Lora, wanted: Lora) -> float:
    """Measure how far one adapter is from another.

    Args:
        found: LoRA layers by name.
        wanted: the reference, with the same layers.

    Returns:
        Frobenius norm of the difference of all deltas over that of the wanted ones.
    """
    off = sum(float((found[n].delta - wanted[n].delta).pow(2).sum()) for n in wanted)
    size = sum(float(wanted[n].delta.pow(2).sum()) for n in wanted)
    return (off / size) ** 0.5 if size else 0.0


def truncate(lora: Lora, rank: int) -> Lora:
    """The best adapter of a lower rank, layer by layer (SVD; Eckart-Young).

    It decomposes the factors (up = Q R, down' = P S), so the cost depends on the adapter's rank,
    not on the layer's size.

    Args:
        lora: LoRA layers by name; each has down (rank, in) and up (out, rank).
        rank: the highest rank of a layer.

    Returns:
        The same layers with that rank or less.
    """
    out = {}
    for name, layer in lora.items():
        q, r = torch.linalg.qr(layer.up.double())
        p, s = torch.linalg.qr(layer.down.double().T)
        u, values, v = torch.linalg.svd(r @ s.T, full_matrices=False)
        root = values[:rank].sqrt()
        down, up = (root[:, None] * v[:rank]) @ p.T, q @ (u[:, :rank] * root)
        out[name] = LoraLayer(down.to(layer.down.dtype), up.to(layer.up.dtype))
    return out


def layer_errors(found: Lora, wanted: Lora) -> dict[str, float]:
    """Measure :func:`relative_error` layer by layer.

    Args:
        found: LoRA layers by name.
        wanted: the reference, with the same layers.

    Returns:
        Error by layer.
    """
    return {
        name: relative_error({name: found[name]}, {name: layer}) for name, layer in wanted.items()
    }


def scaled(lora: Lora, weight: float) -> Lora:
    """Scale every delta of an adapter.

    Args:
        lora: LoRA layers by name.
        weight: the factor.

    Returns:
        A new adapter, which shares the down matrices.
    """
    return {name: LoraLayer(layer.down, layer.up * weight) for name, layer in lora.items()}
