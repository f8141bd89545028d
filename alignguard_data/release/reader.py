"""Access to a release for other rooms: its folder, and the train rows of an expert."""

from collections.abc import Sequence

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import reads
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, size

EVALUATION = "prompts/evaluation.parquet"


ROOM = "release"


def train_rows(data: DataRoot, categories: Sequence[str] | None = None) -> dict[str, str]:
    """Make the inputs of a partition that reads the last release's train rows.

    Args:
        data: the data folder.
        categories: only rows of these, without hard negatives; all rows by default.

    Returns:
        Digest by category, for a spec.

    Raises:
        InputMissing: there is no release.
    """
    release = manifests.require(data.partition(ROOM))
    parts = sorted(release.digests) if categories is None else map(train_part, categories)
    return reads(release, parts)


def train_part(category: str) -> str:
    """Name of the digest of a category's train rows that are no hard negatives."""
    return f"train rows of {category}"


def hard_part(category: str, round: int) -> str:
    """Name of the digest of a category's hard negatives that one round of hardening found."""
    return f"hard negatives of {category}, round {round}"


def release_folder(data: DataRoot) -> Place:
    """Find the last release that the room made.

    Args:
        data: the data folder.

    Returns:
        Its folder.

    Raises:
        InputMissing: there is none.
    """
    manifest = manifests.require(data.partition("release"))
    folder = data.releases / str(manifest.counts["path"])
    if size(folder / manifests.MANIFEST) is None:
        raise InputMissing(f"{folder} is gone: materialize the release again")
    return folder
