"""Where a trained guard's file is, for other rooms."""

from pathlib import Path

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import cached_copy

ROOM = "guards"
FILE = "guard.safetensors"


def guard_file(data: DataRoot, kind: str) -> Path:
    """A guard's file, on this machine.

    Args:
        data: the data root.
        kind: name of the guard.

    Returns:
        A local path; a guard in a bucket is copied to the cache first.

    Raises:
        InputMissing: the guard is not trained yet.
    """
    folder = data.partition(ROOM, kind)
    file = manifests.require(folder).file(FILE)
    return cached_copy(folder / file.name, file.bytes)
