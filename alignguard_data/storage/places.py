"""Storage access for the rooms: a local folder or an S3 bucket.

A place is a ``Path`` or, under ``s3://``, a ``UPath`` over s3fs. This module reads both, also for
libraries that need a local file, and finds the directory for unfinished work, locks and the index
(``scratch``). Writing is in ``storage/writes.py``.
"""

import fcntl
import hashlib
import importlib.util
import itertools
import os
import re
import stat
import sys
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from upath import UPath

from alignguard_data.contracts.errors import StorageError

Place = Path | UPath
SCRATCH_VARIABLE = "ALIGNGUARD_SCRATCH"
_UNADDRESSABLE = re.compile(r"[\x00-\x1f\x7f?\\]|%[0-9A-Fa-f]{2}")
AT_ONCE = 32
"""Concurrent requests to a bucket."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_count = itertools.count()


def parse_root(text: str) -> Place:
    """Parse ``ALIGNGUARD_ROOT`` into a place, without network access.

    Args:
        text: a local path, or ``s3://bucket/prefix``.

    Returns:
        An absolute local path, or a path in the bucket.

    Raises:
        StorageError: the protocol is unknown, the bucket name is missing, databases would misread
            the name, or s3fs is not installed.
    """
    protocol, separator, rest = text.partition("://")
    if not separator:
        return addressable(user_path(text), "the data root (ALIGNGUARD_ROOT)")
    if protocol != "s3" or not rest.strip("/") or _UNADDRESSABLE.search(rest) or "#" in rest:
        raise StorageError(f"the data root is a folder or s3://bucket/prefix (got {text!r})")
    if importlib.util.find_spec("s3fs") is None:
        raise StorageError(f"{text} needs s3fs: pip install 'alignguard[s3]'")
    # Cached listings of s3fs would hide files of other processes.
    connections = {"max_pool_connections": AT_ONCE}
    return UPath(text.rstrip("/"), use_listings_cache=False, config_kwargs=connections)


def user_path(text: str | Path) -> Path:
    """Make a user's path absolute and expand `~`, also where no shell does.

    Args:
        text: a path as a user wrote it.

    Returns:
        The absolute path.

    Raises:
        StorageError: `~name` names no user.
    """
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise StorageError(f"{text}: there is no such home folder") from error


def addressable(folder: Path, what: str) -> Path:
    """Return the folder if SQLite and DuckDB addresses can name it.

    They interpret `?` and `%41` in a path and would write somewhere else.

    Args:
        folder: an absolute path.
        what: what the folder is for, such as "the data root".

    Returns:
        The same path.

    Raises:
        StorageError: they cannot; the message starts with ``what``.
    """
    if found := _UNADDRESSABLE.search(str(folder)):
        raise StorageError(
            f"{what} cannot be {str(folder)!r}: databases misread {found[0]!r} in a path; "
            "name a folder without it"
        )
    return folder


def scratch(place: Place) -> Path:
    """Directory for unfinished work: ``place`` itself if local, else a cache directory.

    For a bucket it is under ``ALIGNGUARD_SCRATCH`` (default ``~/.cache``) and may be deleted while
    nothing runs.

    Args:
        place: a folder of the data root.

    Returns:
        A local path, which need not exist.
    """
    if isinstance(place, Path):
        return place
    bucket, _, key = place.path.partition("/")
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    asked = [getattr(place.fs, "endpoint_url", None), *map(os.environ.get, variables)]
    # Two servers may have buckets of the same name.
    server = hashlib.blake2b(repr(asked).encode(), digest_size=4).hexdigest()
    return _scratch_base() / f"{bucket}-{server}" / key


def _scratch_base() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = user_path(os.environ.get(SCRATCH_VARIABLE) or cache) / "alignguard"
    return addressable(folder, f"the scratch folder ({SCRATCH_VARIABLE})")


def prepare(folder: Place) -> None:
    """Create a folder that only its owner can read, and check that it is writable.

    Args:
        folder: folder to create, with its parents.

    Raises:
        StorageError: it is not writable; the message says what to do.
    """
    probe = folder / ".writable"
    try:
        own = [scratch(folder)] if isinstance(folder, Path) else [_scratch_base(), scratch(folder)]
        for path in own:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.chmod(0o700)
        probe.write_bytes(b"")
        probe.unlink()
    except failures() as error:
        hint = (
            "set ALIGNGUARD_ROOT to a folder that you own, on a disk with free space"
            if isinstance(folder, Path)
            else "set ALIGNGUARD_ROOT to a bucket that exists, and AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL to what may write it"
        )
        raise StorageError(
            f"data root {folder} cannot be written: {reason(error)}; {hint}"
        ) from error


def read_bytes(place: Place) -> bytes:
    """Read a small file.

    Args:
        place: the file.

    Returns:
        Its bytes.

    Raises:
        StorageError: the disk or the bucket refused.
        FileNotFoundError: there is no such file.
    """
    with reading(place):
        if isinstance(place, Path):
            return place.read_bytes()
        # One request; opening or reading in parts would first request the size.
        return bytes(place.fs.cat_file(place.path, max_concurrency=1))  # pyright: ignore[reportArgumentType]


def size(place: Place) -> int | None:
    """Look up the size of a file.

    Args:
        place: the file.

    Returns:
        Bytes, or None if it is missing.

    Raises:
        StorageError: the disk or the bucket refused.
    """
    try:
        with reading(place):
            found = place.stat()
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def list_folder(folder: Place, pattern: str = "*") -> list[Place]:
    """List the files and folders in a folder, without those below them.

    Args:
        folder: the folder.
        pattern: glob pattern of the names.

    Returns:
        The matches, sorted; empty if there is no such folder.
    """
    with reading(folder):
        return sorted(folder.glob(pattern), key=lambda place: place.name)


def files(folder: Place) -> list[str]:
    """List all files below a folder.

    Args:
        folder: the folder.

    Returns:
        Names relative to the folder, sorted.
    """
    if isinstance(folder, Path):
        return sorted(path.relative_to(folder).as_posix() for path in _local_files(folder))
    with reading(folder):
        found = folder.fs.find(folder.path)
    return sorted(name.removeprefix(folder.path).lstrip("/") for name in found)


def _local_files(folder: Path) -> list[Path]:
    with reading(folder):
        return [path for path in folder.rglob("*") if not path.is_dir()]


def newest(folder: Place) -> float:
    """Modification time of a folder's newest file (seconds since the epoch); 0 without files."""
    with reading(folder):
        return max(((folder / name).stat().st_mtime for name in files(folder)), default=0.0)


@contextmanager
def local_copy(place: Place) -> Generator[Path]:
    """Make a file readable by libraries that need a local path.

    Args:
        place: the file.

    Yields:
        The file itself if local, else a temporary copy.

    Raises:
        StorageError: the disk or the bucket refused.
        FileNotFoundError: there is no such file.
    """
    if isinstance(place, Path):
        yield place
        return
    copy = _scratch_base() / "copies" / f"{os.getpid()}-{next(_count)}-{place.name}"
    try:
        _fetch(place, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def cached_copy(place: Place, expected: int) -> Path:
    """Download a file once and keep it in the cache.

    Args:
        place: the file; a local one is not copied.
        expected: its size in bytes.

    Returns:
        The local path.

    Raises:
        StorageError: the disk or the bucket refused.
    """
    kept = scratch(place)
    if not isinstance(place, Path) and size(kept) != expected:
        with local_copy(place) as copy:
            kept.parent.mkdir(parents=True, exist_ok=True)
            copy.replace(kept)
    return kept


def _fetch(place: UPath, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with reading(place):
        place.fs.get_file(place.path, str(copy))


def lock(folder: Place) -> int | None:
    """Lock a folder.

    Args:
        folder: the folder; a local one is created if missing.

    Returns:
        The open file descriptor, whose closing releases the lock; None if another process has it.

    Raises:
        StorageError: the folder cannot be written.
    """
    here = scratch(folder)
    try:
        here.mkdir(parents=True, exist_ok=True)
        handle = os.open(here / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(f"cannot write {here}: {reason(error)}") from error
    return held(handle)


def held(handle: int) -> int | None:
    """Lock an open file.

    Args:
        handle: its file descriptor.

    Returns:
        The same descriptor; None, and it is closed, if another process has the lock.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def map_concurrently(
    place: Place, function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> list[_Result]:
    """Apply a function to each item, concurrently for a bucket.

    Args:
        place: the storage that the function reads.
        function: called once per item, from several threads for a bucket.
        items: its arguments.

    Returns:
        The results in the order of the items.
    """
    if isinstance(place, Path):
        return [function(item) for item in items]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, items))


@contextmanager
def reading(place: Place) -> Generator[None]:
    """Turn failures in the block into a StorageError that names ``place``.

    FileNotFoundError passes through.

    Args:
        place: the place that the message names.

    Yields:
        Nothing.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the disk or the bucket refused.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(error.errno, error.strerror, str(place)) from error
    except failures() as error:
        raise StorageError(f"cannot read {place}: {reason(error)}") from error


def failures() -> tuple[type[Exception], ...]:
    """Exceptions of a disk, and of s3fs and the libraries below it."""
    found: list[type[Exception]] = [OSError]
    for module, name in (("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError")):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def reason(error: Any) -> str:
    """One-line reason, in the system's words if it has any."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
