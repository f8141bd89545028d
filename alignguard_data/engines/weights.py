"""Which weights a model folder holds, as a short hash: the revision of a local checkpoint."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from alignguard_data.contracts.errors import EngineError
from alignguard_data.storage.shards import sha256_file

_COUNTED = {".safetensors", ".json", ".txt", ".model", ".jinja"}
"""Weights, configurations, vocabularies and templates of chats."""


def folder_revision(folder: Path) -> str:
    """64-bit hash (hex) of every weight and configuration file of a diffusers folder.

    The noise schedule and the tokenizer count too: they change the images as weights do. Kept
    for the life of the process, for as long as sizes and modification times stay.

    Raises:
        EngineError: the folder holds no safetensors file.
    """
    files = [path for path in _files(folder) if path.suffix in _COUNTED]
    if not any(path.suffix == ".safetensors" for path in files):
        raise EngineError(f"{folder} holds no .safetensors file, so it is not a model folder")
    return _revision(folder, files)


def tokenizer_revision(folder: Path) -> str:
    """64-bit hash (hex) of the tokenizer's files of a diffusers folder, kept likewise.

    Other weights with the same tokenizer have the same.
    """
    return _revision(folder, _files(folder / "tokenizer"))


def _files(folder: Path) -> list[Path]:
    """Every file below a folder, sorted, but hidden ones."""
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
    """64-bit hash (hex) of one weight file, kept likewise.

    Raises:
        EngineError: the file is missing or is not a safetensors file.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        raise EngineError(f"{path} is not a safetensors file")
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)[:16]


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, modified: int) -> str:
    del size, modified  # they are the cache's key
    return sha256_file(path)
