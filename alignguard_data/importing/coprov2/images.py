"""Reads the published images: hashes them for the fingerprint, then reads them in pairs.

One batch of pairs is in memory at a time. If an image cannot be decoded or is constant, its pair is
rejected.
"""

import io
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from alignguard_data.contracts.errors import ConfigError, InputMissing, IntegrityError
from alignguard_data.contracts.pixels import phash_hex, reject_reason
from alignguard_data.contracts.protocols import Pixels, Progress
from alignguard_data.contracts.records import SIDES, Side, image_id
from alignguard_data.importing.coprov2.files import TRAIN_NAME, CsvFile
from alignguard_data.importing.coprov2.pairs import Candidate
from alignguard_data.importing.records import ImportedImage, RejectedRow

_FORMATS = ("JPEG", "PNG", "WEBP")
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Images of complete pairs, and all rows of incomplete ones."""

    images: list[ImportedImage]
    rejected: list[RejectedRow]


def wanted_images(files: Sequence[CsvFile], folder: Path) -> list[str]:
    """Which images to import.

    Args:
        files: the files, whose train rows name images.
        folder: the image folder; its subfolders are not searched.

    Returns:
        File names of train images that are there, sorted; names that leave the folder are ignored.

    Raises:
        ConfigError: the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            there = {entry.name for entry in entries if entry.is_file()}
    except OSError as error:
        raise ConfigError("--images", [f"{folder}: {error.strerror}"]) from error
    named = {row.image for file in files if file.part == "train" for row in file.rows}
    return sorted(name for name in named & there if TRAIN_NAME.fullmatch(name))


def hash_images(
    folder: Path, names: Sequence[str], pool: Executor, progress: Progress | None = None
) -> dict[str, str]:
    """Hash every named file.

    Args:
        folder: the image folder.
        names: file names in it.
        pool: reads several files at once.
        progress: called with the number of files just finished.

    Returns:
        sha256 (hex) by file name.

    Raises:
        InputMissing: a file cannot be read; it is named.
    """

    def digest(name: str) -> str:
        return image_id(_content(folder, name))

    hashes: dict[str, str] = {}
    for name, found in zip(names, pool.map(digest, names), strict=True):
        hashes[name] = found
        if progress:
            progress(1)
    return hashes


def read_batch(
    folder: Path, candidates: Sequence[Candidate], hashes: dict[str, str], pool: Executor
) -> Batch:
    """Read both images of each train pair.

    Args:
        folder: the image folder.
        candidates: pairs with a row on both sides.
        hashes: sha256 (hex) by file name, of :func:`hash_images`.
        pool: reads several pairs at once.

    Returns:
        The images of complete pairs; if an image is unusable, the rejected rows of both sides.

    Raises:
        IntegrityError: a file changed after it was hashed.
    """
    batch = Batch(images=[], rejected=[])
    read = pool.map(lambda candidate: _read_pair(folder, candidate, hashes), candidates)
    for candidate, sides in zip(candidates, read, strict=True):
        faults: dict[Side, str] = {
            side: found for side, found in sides.items() if isinstance(found, str)
        }
        if faults:
            batch.rejected.extend(candidate.rejected(faults))
        else:
            batch.images.extend(i for i in sides.values() if isinstance(i, ImportedImage))
    return batch


def _read_pair(
    folder: Path, candidate: Candidate, hashes: dict[str, str]
) -> dict[Side, ImportedImage | str]:
    return {side: _read(folder, candidate, side, hashes) for side in SIDES}


def _read(
    folder: Path, candidate: Candidate, side: Side, hashes: dict[str, str]
) -> ImportedImage | str:
    row, pair = candidate.rows[side][0], candidate.pair
    content = _content(folder, row.image)
    if image_id(content) != hashes[row.image]:
        raise IntegrityError(f"{folder / row.image} was changed while it was imported: run again")
    pixels = _decode(content)
    if pixels is None:
        return "image_corrupt"
    if reason := reject_reason(pixels):
        return reason
    return ImportedImage(
        image_id=hashes[row.image],
        pair_id=pair.pair_id,
        concept=pair.concept,
        side=side,
        prompt=row.prompt,
        name=row.image,
        width=pixels.shape[1],
        height=pixels.shape[0],
        phash=phash_hex(pixels),
        image=content,
    )


def _decode(content: bytes) -> Pixels | None:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
            return np.asarray(opened.convert("RGB"))
    except _UNREADABLE:
        return None


def _content(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise InputMissing(f"{folder / name} cannot be read: {error.strerror}") from error
