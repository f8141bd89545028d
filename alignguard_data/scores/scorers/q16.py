"""Scorer ``q16``: is an image inappropriate? CLIP's embedding against two tuned class vectors.

After Schramowski et al. (arXiv 2202.06675): softmax of 100 x cosine, flagged at 0.5 or more. The
vectors come from the authors' ``prompts.p``, which ``alignguard convert-q16`` turns into a
safetensors file without trusting it.
"""

import io
import pickle
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Pixels
from alignguard_data.engines.clip_model import ClipModel
from alignguard_data.storage.shards import sha256_file, write_bytes

VECTORS = "class_vectors"
SCALE = 100.0


class Q16Scorer:
    """An ``ImageScorer`` with the probability ``inappropriate``.

    Args:
        vectors: safetensors file with the two class vectors (2, width): appropriate first.
        model: folder or hub id of the CLIP model they were tuned on (ViT-L/14).
        revision: commit of a hub id.
        device: of :class:`ClipModel`.
        batch_size: likewise.
    """

    name = "q16"
    keys = ("inappropriate",)

    def __init__(
        self,
        vectors: str,
        model: str,
        revision: str | None = None,
        device: str = "auto",
        batch_size: int = 32,
    ) -> None:
        self._file = Path(vectors)
        self._clip = ClipModel(model, revision, device, batch_size)

    @cached_property
    def version(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """CLIP model and hash of the class vectors."""
        if not self._file.is_file():
            raise EngineError(
                f"Q16's class vectors {self._file} are missing: get prompts.p from the "
                "repository ml-research/Q16 (data/ViT-L-14/) and run "
                "`alignguard convert-q16 prompts.p q16.safetensors`"
            )
        return f"{self._clip.identity}+{sha256_file(self._file)[:12]}"

    @cached_property
    def _vectors(self) -> npt.NDArray[np.float32]:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            found = load_file(self._file)[VECTORS].astype(np.float32)
        except (OSError, SafetensorError, KeyError) as error:
            raise EngineError(f"{self._file} has no {VECTORS}: {error}") from error
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """One dict per image; the captions are not used."""
        del prompts
        if not len(images):
            return []
        shown = self._clip.images(images)
        if shown.shape[1] != self._vectors.shape[1]:
            raise EngineError(
                f"Q16's class vectors have width {self._vectors.shape[1]}, the CLIP model gives "
                f"{shown.shape[1]}: they were tuned on another model"
            )
        logits = SCALE * shown @ self._vectors.T
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exp[:, 1] / exp.sum(axis=1)
        return [{"inappropriate": round(float(value), 6)} for value in probabilities]


class _Restricted(pickle.Unpickler):
    """Unpickles arrays and tensors, and refuses anything else before calling it."""

    ALLOWED = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy._core.multiarray", "scalar"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise EngineError(f"it needs {module}.{name}, which is not an array")
        return super().find_class(module, name)


def convert_q16(source: Path, target: Path) -> tuple[int, int]:
    """Convert the authors' ``prompts.p`` (a pickle) to safetensors.

    A torch file is read with ``weights_only``, a plain pickle by a reader that supports only
    arrays.

    Args:
        source: the pickle.
        target: the safetensors file to write.

    Returns:
        Shape of the vectors.

    Raises:
        EngineError: the file is missing, contains anything but two vectors, or would run code.
    """
    from safetensors.numpy import save

    try:
        content = source.read_bytes()
        found = np.asarray(_read(content), dtype=np.float32)
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, EngineError) as error:
        raise EngineError(f"{source} cannot be converted: {error}") from error
    if found.ndim != 2 or len(found) != 2 or not np.isfinite(found).all():
        raise EngineError(f"{source} holds shape {found.shape}, not two finite vectors (2, width)")
    write_bytes(target, save({VECTORS: np.ascontiguousarray(found)}))
    return found.shape[0], found.shape[1]


def _read(content: bytes) -> Any:
    if content[:2] == b"PK":
        import torch

        tensor = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        return tensor.float().numpy()
    return _Restricted(io.BytesIO(content)).load()
