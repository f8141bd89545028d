"""Release folders: names, versions and publication."""

import re
import shutil
from pathlib import Path

from alignguard_data.contracts.errors import IntegrityError, StorageError
from alignguard_data.release.checks import read_manifest
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import MANIFEST, Manifest
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, list_folder, scratch, size
from alignguard_data.storage.writes import put_folder, remove_file

_NAME = re.compile(r"-v(\d+)\.(\d+)\.(\d+)$")


def list_releases(data: DataRoot) -> list[Place]:
    """List the releases, without unfinished ones.

    Args:
        data: the data folder.

    Returns:
        Their folders, oldest version first.
    """
    found = list_folder(data.releases, f"coprov2-{data.profile}-v*")
    whole = [p for p in found if _NAME.search(p.name) and size(p / MANIFEST) is not None]
    return sorted(whole, key=lambda p: version_of(p.name))


def latest_release(data: DataRoot) -> Place | None:
    """Find the release of the highest version.

    Args:
        data: the data folder.

    Returns:
        Its folder, or None if there is none.
    """
    releases = list_releases(data)
    return releases[-1] if releases else None


def version_of(name: str) -> tuple[int, int, int]:
    """``(0, 2, 0)`` of a folder's name that ends in ``-v0.2.0``; ValueError for another name."""
    match = _NAME.search(name)
    if match is None:
        raise ValueError(f"{name!r} does not end in a version")
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch)


def release_exists(data: DataRoot, done: Manifest) -> bool:
    """Whether the release that the room's manifest points to still exists, by file sizes.

    The folder is outside the partition, so a user may have deleted it.
    """
    if "path" not in done.counts:
        return False
    folder = data.releases / str(done.counts["path"])
    try:
        files = read_manifest(folder)["files"]
    except IntegrityError:
        return False
    return all(size(folder / file["name"]) == file["bytes"] for file in files)


def discard_damaged(folder: Place) -> None:
    """Delete a damaged release's manifest, so its name can be used again.

    Only for a release whose good copy is written already.

    Args:
        folder: folder of the release.

    Raises:
        StorageError: the disk or the bucket refused.
    """
    remove_file(folder / MANIFEST)


def fresh_folder(data: DataRoot) -> Path:
    """Make an empty folder under a temporary name.

    Args:
        data: the data folder.

    Returns:
        The folder, on this machine.

    Raises:
        StorageError: the folder cannot be created.
    """
    here = scratch(data.releases)
    try:
        here.mkdir(parents=True, exist_ok=True)
        for left in here.glob(".*.partial"):
            shutil.rmtree(left)
        temporary = here / ".release.partial"
        temporary.mkdir()
    except OSError as error:
        raise StorageError(f"cannot write {here}: {error.strerror}") from error
    return temporary


def rename_into_place(temporary: Path, final: Place) -> Place:
    """Rename the finished folder to its name and make it read-only.

    Args:
        temporary: the finished folder.
        final: its final place.

    Returns:
        The final place.

    Raises:
        StorageError: the disk or the bucket refused, or another machine took the name.
    """
    put_folder(temporary, final, last=MANIFEST)
    return final


def next_name(data: DataRoot, content_id: str, level: str) -> tuple[str, str | None]:
    """The next version, or the version that this content already had.

    Args:
        data: the data folder.
        content_id: of the new release's files.
        level: the number to increment: ``major``, ``minor`` or ``patch``.

    Returns:
        Name of the folder, and of the parent release (None for the first).
    """
    pointed = manifests.load(data.partition("release"))
    latest = latest_release(data)
    names = [latest.name] if latest else []
    if pointed:
        path, parent = str(pointed.counts["path"]), str(pointed.counts["parent"])
        if pointed.counts["release_content_id"] == content_id:
            return path, parent or None  # the folder was deleted: restore it
        names.append(path)
    if not names:
        return f"coprov2-{data.profile}-v0.1.0", None
    major, minor, patch = max(version_of(name) for name in names)
    version = {
        "major": (major + 1, 0, 0),
        "minor": (major, minor + 1, 0),
        "patch": (major, minor, patch + 1),
    }[level]
    number = ".".join(map(str, version))
    return f"coprov2-{data.profile}-v{number}", latest.name if latest else None
