"""Converts pickled weights to safetensors without running the pickle."""

import pickle
from pathlib import Path

from alignguard_data.contracts.errors import EngineError, first_line
from alignguard_data.storage.shards import atomic_file

PICKLED = (".bin", ".pt", ".pth")


def pickled_weights(folder: Path) -> list[Path]:
    """Pickled weight files of a model folder without a safetensors file next to them, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in PICKLED and path.is_file() and not _target(path).exists()
    )


def convert_weights(folder: Path) -> list[Path]:
    """Write a safetensors file for each pickled weight file.

    The pickles are read with ``weights_only`` and kept. Tensors that share memory are written
    separately, since safetensors does not support sharing.

    Args:
        folder: a model folder; subfolders are searched too.

    Returns:
        The new files, sorted by the pickles' names.

    Raises:
        EngineError: there are no pickled weights, or files contain anything but tensors; all are
            named.
    """
    found = pickled_weights(folder)
    if not found:
        raise EngineError(f"{folder} has no pickled weights ({', '.join(PICKLED)}) to convert")
    tensors, faults = {}, []
    for path in found:
        try:
            tensors[path] = _tensors(path)
        except pickle.UnpicklingError:  # torch's text advises to run it anyway
            faults.append(f"  - {path}: it contains something other than tensors")
        except (OSError, EOFError, RuntimeError, ValueError) as error:
            faults.append(f"  - {path}: {first_line(error)}")
    if faults:
        raise EngineError("nothing was converted:\n" + "\n".join(faults))
    return [_write(path, state) for path, state in tensors.items()]


def _target(path: Path) -> Path:
    # transformers uses different stems for the two formats.
    stem = "model" if path.stem == "pytorch_model" else path.stem
    return path.with_name(f"{stem}.safetensors")


def _tensors(path: Path) -> dict[str, object]:
    import torch

    state = torch.load(path, weights_only=True, map_location="cpu")
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError("it contains something other than named tensors")
    return {name: tensor.clone().contiguous() for name, tensor in state.items()}


def _write(path: Path, state: dict[str, object]) -> Path:
    from safetensors.torch import save_file

    with atomic_file(_target(path)) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})  # pyright: ignore[reportArgumentType]
    return _target(path)
