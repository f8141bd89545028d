"""Reads experts for other rooms: their LoRA files."""

from pathlib import Path

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import cached_copy

ROOM = "experts"


def weights_of(data: DataRoot, key: str) -> Path:
    """Locate the LoRA file of a finished expert on this machine.

    Args:
        data: the data folder.
        key: the expert's partition.

    Returns:
        A local path; a file in a bucket is downloaded once.

    Raises:
        InputMissing: it is not trained yet.
    """
    folder = data.partition(ROOM, key)
    file = manifests.require(folder).file("pytorch_lora_weights.safetensors")
    return cached_copy(folder / file.name, file.bytes)
