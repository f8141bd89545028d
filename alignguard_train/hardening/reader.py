"""Access to hardened adapters for other rooms: the rounds there are, and their files."""

from pathlib import Path

from alignguard_data.contracts.errors import InputMissing, IntegrityError
from alignguard_data.release.hard_rows import hard_rows
from alignguard_data.release.reader import release_folder
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import cached_copy

ROOM = "hardening"
MERGED_FILE = "merged.safetensors"


def rounds(data: DataRoot) -> list[int]:
    """The rounds of which the newest release has hard negatives; none without a whole release.

    A damaged release is a fault of its own room, which `status --verify` names.
    """
    try:
        return sorted({row.round for row in hard_rows(release_folder(data)).values()})
    except (InputMissing, IntegrityError):
        return []


def hardened_weights(data: DataRoot, round: int) -> Path:
    """Locate the merged adapter of one round on this machine.

    Args:
        data: the data folder.
        round: its number, from 1.

    Returns:
        A local safetensors file; of a bucket, its copy in the cache.

    Raises:
        InputMissing: the round is not made.
    """
    return _file(data, round, MERGED_FILE)


def hardened_expert(data: DataRoot, round: int, category: str) -> Path:
    """Locate one expert's weights after a round.

    Args:
        data: the data folder.
        round: its number, from 1.
        category: the expert's category.

    Returns:
        A local safetensors file; of a bucket, its copy in the cache.

    Raises:
        InputMissing: the round is not made.
    """
    return _file(data, round, f"experts/{category}.safetensors")


def _file(data: DataRoot, round: int, name: str) -> Path:
    folder = data.partition(ROOM, str(round))
    file = manifests.require(folder).file(name)
    return cached_copy(folder / file.name, file.bytes)
