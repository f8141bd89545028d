"""What a killed training goes on from: adapter, optimizer and history in one safetensors file.

All randomness of a step derives from (seed, step), so there is no generator to keep.
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
    """Replace the checkpoint by the state after the last step."""
    tensors = {"history": torch.tensor(history, dtype=torch.float64)}
    for name, parameter in parameters.items():
        tensors[f"parameter {name}"] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"state {key} {name}"] = value
            elif value is not None:  # Adafactor counts its steps in a plain number
                tensors[f"{_NUMBER}{key} {name}"] = torch.tensor(value, dtype=torch.float64)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    # Renamed but not synced: it outlives a killed process, which is what a step is worth.
    temporary = checkpoint.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(checkpoint)


def restore(
    checkpoint: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> History:
    """Put adapter and optimizer back as they were; the history is empty if nothing was kept."""
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
