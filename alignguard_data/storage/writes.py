"""Atomic publication of files and folders, in a local folder or a bucket."""

import os
import shutil
from pathlib import Path

from upath import UPath

from alignguard_data.contracts.errors import StorageError
from alignguard_data.storage.places import Place, failures, files, read_bytes, reason, size


def put_file(source: Path, target: Place) -> None:
    """Move a finished local file to ``target``, durably.

    A local target is renamed. For a bucket it is uploaded: the object appears when its last byte
    has arrived and its checksum matches, and an interrupted upload leaves the old object.

    Args:
        source: a local file, which is gone afterwards.
        target: its final place; an existing file is replaced.

    Raises:
        StorageError: the disk or the bucket refused.
    """
    try:
        if isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            _sync_file(source)
            source.replace(target)
            sync_folder(target.parent)
        else:
            target.fs.put_file(str(source), target.path)
            source.unlink()
    except failures() as error:
        raise StorageError(f"cannot write {target}: {reason(error)}") from error


def put_folder(source: Path, target: Place, *, last: str) -> None:
    """Publish a finished local folder, read-only; it is complete once its file ``last`` exists.

    A local folder is renamed. A bucket gets file by file, ``last`` at the end and only if there is
    none. Leftovers of a killed attempt under the name are removed first.

    Args:
        source: a local folder, which is gone afterwards.
        target: its final place, on the same disk or in a bucket.
        last: name of the file that makes the folder complete.

    Raises:
        StorageError: the name is taken, or the disk or the bucket refused.
    """
    if size(target / last) is not None:
        raise StorageError(f"cannot write {target}: it exists already and is never replaced")
    remove_tree(target)
    try:
        if isinstance(target, Path):
            for name in files(source):
                _sync_file(source / name)
                (source / name).chmod(0o444)
            source.rename(target)
            sync_folder(target.parent)
        else:
            for name in files(source):
                if name != last:
                    target.fs.put_file(str(source / name), (target / name).path)
            _put_once(source / last, target / last)
            shutil.rmtree(source)
    except failures() as error:
        raise StorageError(f"cannot write {target}: {reason(error)}") from error


def _put_once(source: Path, target: UPath) -> None:
    try:
        target.fs.put_file(str(source), target.path, mode="create")  # If-None-Match
    except FileExistsError as error:
        # The first try may have succeeded and only its response got lost.
        if read_bytes(target) != source.read_bytes():
            raise StorageError(f"another machine has written {target} meanwhile") from error


def _sync_file(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append(place: Place, text: str) -> None:
    """Append lines to a file; concurrent writers neither mix nor lose lines.

    Args:
        place: the file; created if it is missing.
        text: whole lines, with their ends.

    Raises:
        StorageError: the disk or the bucket refused.
    """
    try:
        if isinstance(place, Path):
            handle = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, text.encode())  # one write at the end of the file
                os.fsync(handle)
            finally:
                os.close(handle)
        else:
            while not _put_longer(place, text.encode()):
                continue
    except failures() as error:
        raise StorageError(f"cannot write {place}: {reason(error)}") from error


def _put_longer(place: UPath, more: bytes) -> bool:
    """Put an object with ``more`` appended, unless it changed since it was read.

    The bucket compares the ETag; a lock on this machine would not cover other machines.

    Args:
        place: the object.
        more: bytes to append.

    Returns:
        False if it changed meanwhile, so that nothing was written.

    Raises:
        OSError: the bucket refused for another reason.
    """
    try:
        tag = place.fs.info(place.path)["ETag"]
        content, condition = read_bytes(place) + more, {"IfMatch": tag}
    except FileNotFoundError:
        content, condition = more, {"IfNoneMatch": "*"}
    try:
        place.fs.pipe_file(place.path, content, **condition)
    except OSError as error:
        answer = getattr(error.__cause__, "response", {})
        if answer.get("Error", {}).get("Code") not in _LOST_RACE:
            raise
        return False
    return True


_LOST_RACE = ("PreconditionFailed", "ConditionalRequestConflict")


def remove_file(place: Place) -> None:
    """Remove a file if it exists.

    Args:
        place: the file.

    Raises:
        StorageError: the disk or the bucket refused.
    """
    try:
        place.unlink()
    except FileNotFoundError:
        return
    except failures() as error:
        raise StorageError(f"cannot remove {place}: {reason(error)}") from error


def remove_tree(folder: Place) -> None:
    """Remove a folder and its content if it exists.

    Args:
        folder: the folder.

    Raises:
        StorageError: the disk or the bucket refused.
    """
    try:
        if isinstance(folder, Path):
            shutil.rmtree(folder)
        else:
            folder.fs.rm(folder.path, recursive=True)
    except FileNotFoundError:
        return
    except failures() as error:
        raise StorageError(f"cannot remove {folder}: {reason(error)}") from error
