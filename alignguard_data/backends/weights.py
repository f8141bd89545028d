"""Which weights a model folder holds, as a short hash: the revision of a local checkpoint."""

import hashlib
from functools import lru_cache
from pathlib import Path

from alignguard_data.errors import EngineError
from alignguard_data.shards import sha256_file

_COUNTED = {".safetensors", ".json", ".txt"}


def folder_revision(folder: Path) -> str:
    """64-bit hash (hex) of every weight and configuration file of a diffusers folder.

    The noise schedule and the tokenizer count too: they change the images as weights do. Kept
    for the life of the process, for as long as sizes and modification times stay.

    Raises:
        EngineError: the folder holds no safetensors file.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in _COUNTED
        and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )
    if not any(path.suffix == ".safetensors" for path in files):
        raise EngineError(f"{folder} holds no .safetensors file, so it is not a model folder")
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
