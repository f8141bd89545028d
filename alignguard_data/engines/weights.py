"""Revision of a local checkpoint: a short hash of its weights and configs."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from alignguard_data.contracts.errors import EngineError
from alignguard_data.storage.shards import sha256_file

_COUNTED = {".safetensors", ".json", ".txt", ".model", ".jinja"}
"""Weights, configs, vocabularies and chat templates."""


def folder_revision(folder: Path) -> str:
    """64-bit hash of all weight and config files of a diffusers folder.

    Includes the noise schedule and the tokenizer, since they change images as weights do. Cached in
    the process until a size or modification time changes.

    Args:
        folder: the model; hidden files do not count.

    Returns:
        16 hex digits.

    Raises:
        EngineError: the folder has no safetensors file.
    """
    files = [path for path in _files(folder) if path.suffix in _COUNTED]
    if not any(path.suffix == ".safetensors" for path in files):
        raise EngineError(f"{folder} has no .safetensors file, so it is not a model folder")
    return _revision(folder, files)


def tokenizer_revision(folder: Path) -> str:
    """64-bit hash (hex) of the tokenizer files of a diffusers folder, cached likewise.

    It does not depend on the weights.
    """
    return _revision(folder, _files(folder / "tokenizer"))


def _files(folder: Path) -> list[Path]:
    """All files below a folder except hidden ones, sorted."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _revision(folder: Path, files: Sequence[Path]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        stat = path.stat()
        content = _sha256(path, stat.st_size, stat.st_mtime_ns)
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def file_revision(path: Path) -> str:
    """64-bit hash of one weight file, cached likewise.

    Args:
        path: a safetensors file.

    Returns:
        16 hex digits.

    Raises:
        EngineError: the file is missing or is not a safetensors file.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        raise EngineError(f"{path} is not a safetensors file")
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)[:16]


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, modified: int) -> str:
    del size, modified  # part of the cache key
    return sha256_file(path)
