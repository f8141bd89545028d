"""The one layer between the rooms and where data lives: a folder of this machine, or a bucket.

A place is a ``Path`` or, under ``s3://``, a ``UPath`` over s3fs. What differs is here: how it is
read, also by libraries that need a local file, and where unfinished work, locks and the index live
(``scratch``). Writing is in ``storage_writes``.
"""

import fcntl
import hashlib
import importlib.util
import itertools
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from upath import UPath

from alignguard_data.contracts.errors import StorageError

Place = Path | UPath
SCRATCH_VARIABLE = "ALIGNGUARD_SCRATCH"
_UNADDRESSABLE = re.compile(r"[\x00-\x1f\x7f?\\]|%[0-9A-Fa-f]{2}")
AT_ONCE = 32
"""Requests to a bucket that may be under way at the same time."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_count = itertools.count()


def parse_root(text: str) -> Place:
    """The place that ``ALIGNGUARD_ROOT`` names; asks nothing of the network.

    Raises:
        StorageError: another protocol, no bucket's name, a name that databases misread, or s3fs
            is not installed.
    """
    protocol, separator, rest = text.partition("://")
    if not separator:
        return addressable(user_path(text), "the data root (ALIGNGUARD_ROOT)")
    if protocol != "s3" or not rest.strip("/") or _UNADDRESSABLE.search(rest) or "#" in rest:
        raise StorageError(f"the data root is a folder or s3://bucket/prefix (got {text!r})")
    if importlib.util.find_spec("s3fs") is None:
        raise StorageError(f"{text} needs s3fs: pip install 'alignguard[s3]'")
    # Listings that s3fs keeps would hide what other processes wrote.
    connections = {"max_pool_connections": AT_ONCE}
    return UPath(text.rstrip("/"), use_listings_cache=False, config_kwargs=connections)


def user_path(text: str | Path) -> Path:
    """A path as a user writes it, absolute: `~` is the home folder also where no shell saw it.

    Raises:
        StorageError: `~name` names no user.
    """
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise StorageError(f"{text}: there is no such home folder") from error


def addressable(folder: Path, what: str) -> Path:
    """The folder, if SQLite's and DuckDB's addresses can name it.

    They read `?` and `%41` in it as their own and would write somewhere else.

    Raises:
        StorageError: they cannot; the text opens with ``what``.
    """
    if found := _UNADDRESSABLE.search(str(folder)):
        raise StorageError(
            f"{what} cannot be {str(folder)!r}: databases misread {found[0]!r} in a path; "
            "name a folder without it"
        )
    return folder


def scratch(place: Place) -> Path:
    """Where unfinished work for ``place`` lives: there itself, or its like on this machine.

    For a bucket that is a folder under ``ALIGNGUARD_SCRATCH`` (else ``~/.cache``), which may be
    deleted while nothing runs.
    """
    if isinstance(place, Path):
        return place
    bucket, _, key = place.path.partition("/")
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    asked = [getattr(place.fs, "endpoint_url", None), *map(os.environ.get, variables)]
    # Two servers may each have a bucket of this name.
    server = hashlib.blake2b(repr(asked).encode(), digest_size=4).hexdigest()
    return _scratch_base() / f"{bucket}-{server}" / key


def _scratch_base() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = user_path(os.environ.get(SCRATCH_VARIABLE) or cache) / "alignguard"
    return addressable(folder, f"the scratch folder ({SCRATCH_VARIABLE})")


def prepare(folder: Place) -> None:
    """Make a folder that its owner alone can read, and see that it can be written.

    Raises:
        StorageError: it cannot, with what to do about it.
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
    """The content of a small file; FileNotFoundError where there is none.

    Raises:
        StorageError: the disk or the bucket refused.
    """
    with reading(place):
        if isinstance(place, Path):
            return place.read_bytes()
        # One request: what is opened, or read in several parts, asks for its size first.
        return bytes(place.fs.cat_file(place.path, max_concurrency=1))  # pyright: ignore[reportArgumentType]


def size(place: Place) -> int | None:
    """Bytes of a file; None where there is none."""
    try:
        with reading(place):
            found = place.stat()
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def children(folder: Place, pattern: str = "*") -> list[Place]:
    """Files and folders of a folder by a pattern of their names, sorted; none where it is not."""
    with reading(folder):
        return sorted(folder.glob(pattern), key=lambda place: place.name)


def files(folder: Place) -> list[str]:
    """Names of all files below a folder, relative to it, sorted."""
    if isinstance(folder, Path):
        return sorted(path.relative_to(folder).as_posix() for path in _local_files(folder))
    with reading(folder):
        found = folder.fs.find(folder.path)
    return sorted(name.removeprefix(folder.path).lstrip("/") for name in found)


def _local_files(folder: Path) -> list[Path]:
    with reading(folder):
        return [path for path in folder.rglob("*") if not path.is_dir()]


def newest(folder: Place) -> float:
    """When a folder's newest file was written (seconds since the epoch); 0 where it has none."""
    with reading(folder):
        return max(((folder / name).stat().st_mtime for name in files(folder)), default=0.0)


@contextmanager
def local_copy(place: Place) -> Iterator[Path]:
    """A file as one of this machine for as long as the block lasts; FileNotFoundError without it.

    Raises:
        StorageError: the disk or the bucket refused.
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


def kept_copy(place: Place, expected: int) -> Path:
    """A file as one of this machine, fetched once and kept; ``expected`` is its size in bytes.

    Only for files whose name changes with their content, as a partition's do.

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


def open_parquet(place: Place) -> pq.ParquetFile:
    """A Parquet file of which only what is asked for is read; FileNotFoundError without it."""
    where = UPath(place)
    with reading(place):
        return pq.ParquetFile(where.path, filesystem=where.fs)


def read_columns(place: Place, columns: Sequence[str]) -> pa.Table:
    """Some columns of a Parquet file, of which nothing else is fetched.

    Its end, and the ranges where the columns lie. What is read is checked against the checksums of
    its pages, where the file has them.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the disk or the bucket refused, or what is read is damaged.
    """
    where = UPath(place)
    # A bucket's file would else be read ahead by megabytes wherever a column begins.
    options = {} if isinstance(place, Path) else {"cache_type": "none"}
    with (
        reading(place),
        where.fs.open(where.path, "rb", **options) as handle,
        pq.ParquetFile(handle, pre_buffer=True, page_checksum_verification=True) as file,
    ):
        return file.read(columns=list(columns))


def dataset(places: Sequence[Place]) -> ds.Dataset:
    """Parquet files of one folder as one table that is scanned when it is asked for."""
    where = [UPath(place) for place in places]
    return ds.dataset([place.path for place in where], filesystem=where[0].fs, format="parquet")


def lock(folder: Place) -> int | None:
    """Take the folder's lock; an open file that holds it, or None where another process has it.

    The lock is the kernel's: it goes with the process, however that ends. For a bucket it guards
    against processes of this machine alone.

    Raises:
        StorageError: the folder cannot be written.
    """
    here = scratch(folder)
    try:
        here.mkdir(parents=True, exist_ok=True)
        handle = os.open(here / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(f"cannot write {here}: {reason(error)}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def at_once(
    place: Place, function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> list[_Result]:
    """``function`` of every item, in order; a bucket is asked for many at the same time."""
    if isinstance(place, Path):
        return [function(item) for item in items]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, items))


@contextmanager
def reading(place: Place) -> Iterator[None]:
    """Turn whatever fails in the block into a StorageError that names ``place``.

    Except that it is not there: FileNotFoundError.
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
    """What a disk raises, and what s3fs lets through of the libraries below it."""
    found: list[type[Exception]] = [OSError]
    for module, name in (("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError")):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def reason(error: Any) -> str:
    """One line: the system's word for it where it has one."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
