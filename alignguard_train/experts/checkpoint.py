"""Training checkpoint: adapter, optimizer and history in one safetensors file.

A step's randomness derives from (seed, step), so no generator state is saved.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

History = list[list[float]]
_NUMBER = "number "


def keep(
    checkpoint: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    history: History,
) -> None:
    """Overwrite the checkpoint with the current state."""
    tensors = {"history": torch.tensor(history, dtype=torch.float64)}
    for name, parameter in parameters.items():
        tensors[f"parameter {name}"] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"state {key} {name}"] = value
            elif value is not None:  # Adafactor's step count is a plain number
                tensors[f"{_NUMBER}{key} {name}"] = torch.tensor(value, dtype=torch.float64)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    # Renamed without fsync: survives a killed process, which is enough for a checkpoint.
    temporary = checkpoint.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(checkpoint)


def restore(
    checkpoint: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> History:
    """Restore adapter and optimizer; the history is empty without a checkpoint."""
    if not checkpoint.exists():
        return []
    tensors = load_file(checkpoint)
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"parameter {name}"])
    for full, value in tensors.items():
        kind, _, rest = full.partition(" ")
        key, _, name = rest.partition(" ")
        if kind == "state":
            optimizer.state[parameters[name]][key] = value
        elif kind == _NUMBER.strip():
            number = value.item()
            optimizer.state[parameters[name]][key] = int(number) if key == "step" else number
    return tensors["history"].tolist()
