"""Where a trained guard's file is, for other rooms."""

from pathlib import Path

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, cached_copy

ROOM = "guards"
IMPORTED = "imported_guards"
"""Folder of the guards that learned from imports."""
FILE = "guard.safetensors"


def imported_partition(data: DataRoot, kind: str, imported: Place) -> Place:
    """The folder of a guard that learned from an import, apart from those of releases.

    Args:
        data: the data root.
        kind: name of the guard.
        imported: the import's folder.

    Returns:
        It need not exist.
    """
    return data.base / IMPORTED / imported.name / kind


def guard_file(data: DataRoot, kind: str, imported: Place | None = None) -> Path:
    """A guard's file, on this machine.

    Args:
        data: the data root.
        kind: name of the guard.
        imported: folder of the import that it learned from; None: it learned from the release.

    Returns:
        A local path; a guard in a bucket is copied to the cache first.

    Raises:
        InputMissing: the guard is not trained yet.
    """
    folder = imported_partition(data, kind, imported) if imported else data.partition(ROOM, kind)
    file = manifests.require(folder).file(FILE)
    return cached_copy(folder / file.name, file.bytes)
