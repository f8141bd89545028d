"""Encodes a release for training: latents of both images, text states of both captions."""

import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from alignguard_data.contracts.errors import EngineError, IntegrityError
from alignguard_data.engines.diffusion.conditions import (
    Conditions,
    concatenated,
    encode_texts,
    encode_unconditional,
)
from alignguard_data.engines.out_of_memory import is_out_of_memory
from alignguard_data.storage.parquet_files import dataset, open_parquet
from alignguard_data.storage.places import Place, list_folder
from alignguard_train.base import BaseModel

COLUMNS = ("pair_id", "concept", "category", "caption", "caption_safe", "jpg_0", "jpg_1")
ENCODE_ROWS = 64
"""Maximum captions, and images, per batch."""
ENCODED_PIXELS = 2**22
"""Maximum pixels per VAE batch (16 images of 512x512), the same as rendering decodes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preferences:
    """Pairs in release order.

    Attributes:
        pair_ids: id of each pair.
        concepts: key of each pair's concept.
        categories: key of each pair's category.
        unsafe_prompts: captions of the unsafe side.
        safe_prompts: captions of the safe side.
        chosen: images, uint8 RGB (height, width, 3).
        rejected: images, likewise.
    """

    pair_ids: list[str]
    concepts: list[str]
    categories: list[str]
    unsafe_prompts: list[str]
    safe_prompts: list[str]
    chosen: list[npt.NDArray[np.uint8]]
    rejected: list[npt.NDArray[np.uint8]]


class LatentRows(Protocol):
    """Latents (rows, channels, h, w) that return the rows of an index: a tensor or mapped files."""

    @property
    def shape(self) -> torch.Size:
        """Shape of the whole."""
        ...

    def __getitem__(self, rows: Any, /) -> Tensor: ...


class ConditionRows(Protocol):
    """Text conditions that return the rows of an index."""

    def __getitem__(self, rows: Any, /) -> Conditions: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPreferences:
    """Encoded pairs, one row per pair.

    Attributes:
        concepts: key of each pair's concept.
        categories: key of each pair's category.
        chosen: scaled latents of the chosen images (pairs, channels, h, w).
        rejected: scaled latents of the rejected images, likewise.
        unsafe: text states of the unsafe prompts.
        safe: text states of the safe prompts.
        empty: one row: the empty prompt's states, used for dropped captions.
        chosen_flipped: latents of the mirrored chosen images, if the recipe flips.
        rejected_flipped: latents of the mirrored rejected images, if the recipe flips.
        about: what a trained module reads of a pair besides its caption (pairs, width): a user.
        costs: of the chosen and the rejected image, float32 (pairs, 2).
    """

    concepts: list[str]
    categories: list[str]
    chosen: LatentRows
    rejected: LatentRows
    unsafe: ConditionRows
    safe: ConditionRows
    empty: Conditions
    chosen_flipped: LatentRows | None = None
    rejected_flipped: LatentRows | None = None
    about: Tensor | None = None
    costs: Tensor | None = None

    def __len__(self) -> int:
        return len(self.categories)


def load_preferences(
    release: Place, categories: Sequence[str] | None = None, *, split: str = "train"
) -> Preferences:
    """Read one split of a release, with its images decoded.

    Args:
        release: folder of the release.
        categories: only the rows of these; None: all.
        split: train or test.

    Returns:
        Pairs in release order.

    Raises:
        IntegrityError: no shard, a missing column, or an image that cannot be decoded, by name.
    """
    rows: list[dict[str, object]] = []
    wanted = None if categories is None else ds.field("category").isin(list(categories))
    for shard in _shards(release, split):
        table = dataset([shard]).to_table(columns=list(COLUMNS), filter=wanted)
        rows += [{**row, "shard": shard.name} for row in table.to_pylist()]
    return preferences_of(rows)


def stream_rows(release: Place, *, split: str = "train") -> Iterator[dict[str, object]]:
    """Read one split's rows in release order, with images still encoded.

    Args:
        release: folder of the release.
        split: train or test.

    Yields:
        A row with the release's columns and the name of its ``shard``.

    Raises:
        IntegrityError: no shard, or a missing column.
    """
    for shard in _shards(release, split):
        with open_parquet(shard) as file:
            for batch in file.iter_batches(batch_size=ENCODE_ROWS, columns=list(COLUMNS)):
                for row in batch.to_pylist():
                    yield {**row, "shard": shard.name}


def count_rows(release: Place, *, split: str = "train") -> Counter[str]:
    """One split's number of rows by category; reads no image.

    Args:
        release: folder of the release.
        split: train or test.

    Returns:
        Rows by category key.

    Raises:
        IntegrityError: no shard, or a missing column.
    """
    table = dataset(_shards(release, split)).to_table(columns=["category"])
    return Counter(table["category"].to_pylist())


def _shards(release: Place, split: str) -> list[Place]:
    shards = list_folder(release / "data", f"{split}-*.parquet")
    if not shards:
        raise IntegrityError(f"{release / 'data'} has no {split}-*.parquet")
    for shard in shards:
        source = dataset([shard])
        missing = set(COLUMNS) - set(source.schema.names)
        if missing:
            raise IntegrityError(f"{shard} lacks column(s) {', '.join(sorted(missing))}")
    return shards


def preferences_of(rows: Sequence[Mapping[str, object]]) -> Preferences:
    """Decode a release's rows.

    Args:
        rows: of :func:`stream_rows`.

    Returns:
        Pairs in the order of the rows.

    Raises:
        IntegrityError: an image that cannot be decoded, by name.
    """
    return Preferences(
        pair_ids=[str(row["pair_id"]) for row in rows],
        concepts=[str(row["concept"]) for row in rows],
        categories=[str(row["category"]) for row in rows],
        unsafe_prompts=[str(row["caption"]) for row in rows],
        safe_prompts=[str(row["caption_safe"]) for row in rows],
        chosen=[_decode(row, "jpg_0") for row in rows],
        rejected=[_decode(row, "jpg_1") for row in rows],
    )


def size_of(row: Mapping[str, object]) -> tuple[int, int]:
    """Height and width of a row's chosen image, read without decoding it.

    Args:
        row: of :func:`stream_rows`.

    Returns:
        Height and width in pixels.

    Raises:
        IntegrityError: the bytes are not an image.
    """
    with _opened(row, "jpg_0") as image:
        return image.height, image.width


def _decode(row: Mapping[str, object], column: str) -> npt.NDArray[np.uint8]:
    with _opened(row, column) as image:
        return np.asarray(image.convert("RGB"))


@contextmanager
def _opened(row: Mapping[str, object], column: str) -> Iterator[Image.Image]:
    content = row[column]
    if not isinstance(content, bytes):
        raise IntegrityError(f"{row['shard']}: {column} of {row['pair_id']} is not bytes")
    try:
        with Image.open(io.BytesIO(content)) as image:
            yield image
    except (UnidentifiedImageError, OSError) as error:
        place = f"{row['shard']}: {column} of {row['pair_id']}"
        raise IntegrityError(f"{place} is not a readable image: {error}") from error


def encode(preferences: Preferences, base: BaseModel, *, flip: bool = False) -> EncodedPreferences:
    """Encode images with the VAE and captions with the text encoders, in batches.

    A batch holds pairs of one category. The last bits of an encoding depend on the batch size, so a
    category's encodings must not depend on the other categories.

    Args:
        preferences: pairs with their images.
        base: the base model.
        flip: also encode the mirrored images; mirrored latents are not the latents of a mirrored
            image.

    Returns:
        One row per pair, in the order of ``preferences``.
    """
    places: dict[str, list[int]] = {}
    for i, category in enumerate(preferences.categories):
        places.setdefault(category, []).append(i)
    order = [i for rows in places.values() for i in rows]
    back = torch.tensor(order, dtype=torch.long).argsort()
    parts = [_pick(preferences, rows) for rows in places.values()]
    plain = [encode_plain(part, base) for part in parts]
    mirrored = [encode_mirrored(part, base) for part in parts] if flip else []
    names = ("chosen_flipped", "rejected_flipped")
    return EncodedPreferences(
        concepts=preferences.concepts,
        categories=preferences.categories,
        chosen=torch.cat([part["chosen"] for part in plain])[back],
        rejected=torch.cat([part["rejected"] for part in plain])[back],
        unsafe=concatenated([conditions_of(part, "unsafe") for part in plain])[back],
        safe=concatenated([conditions_of(part, "safe") for part in plain])[back],
        empty=encode_unconditional(base.pipe),
        **{name: torch.cat([part[name] for part in mirrored])[back] for name in names if flip},
    )


def encode_plain(preferences: Preferences, base: BaseModel) -> dict[str, Tensor]:
    """Latents ``chosen`` and ``rejected``, ``unsafe states`` and ``safe states``, one row per pair.

    A family with pooled states, such as SDXL, has ``unsafe pooled`` and ``safe pooled`` too.
    """
    found = {name: latents_of(getattr(preferences, name), base) for name in ("chosen", "rejected")}
    for name in ("unsafe", "safe"):
        conditions = encode_prompts(getattr(preferences, f"{name}_prompts"), base).tensors()
        found |= {f"{name} {kind}": tensor for kind, tensor in conditions.items()}
    return found


def encode_mirrored(preferences: Preferences, base: BaseModel) -> dict[str, Tensor]:
    """Latents ``chosen_flipped`` and ``rejected_flipped`` of the mirrored images."""
    return {
        f"{name}_flipped": latents_of(
            [image[:, ::-1] for image in getattr(preferences, name)], base
        )
        for name in ("chosen", "rejected")
    }


def conditions_of(tensors: Mapping[str, Tensor], name: str) -> Conditions:
    """The conditions that :func:`encode_plain` stored under ``name``."""
    return Conditions(states=tensors[f"{name} states"], pooled=tensors.get(f"{name} pooled"))


def _pick(preferences: Preferences, rows: Sequence[int]) -> Preferences:
    return Preferences(
        **{name: [getattr(preferences, name)[i] for i in rows] for name in Preferences.__slots__}
    )


def encode_prompts(prompts: Sequence[str], base: BaseModel) -> Conditions:
    """Conditions of captions from the base model's text encoders, in batches."""
    return concatenated(
        [
            encode_texts(base.pipe, prompts[i : i + ENCODE_ROWS])
            for i in range(0, len(prompts), ENCODE_ROWS)
        ]
    )


def images_at_once(height: int, width: int) -> int:
    """Images of one size per VAE batch: a bound on pixels, not on images."""
    return max(1, min(ENCODE_ROWS, ENCODED_PIXELS // (height * width)))


def latents_of(images: Sequence[npt.NDArray[np.uint8]], base: BaseModel) -> Tensor:
    """Mode of the VAE's distribution, scaled; batches shrink when the device runs out of memory.

    Args:
        images: RGB images (height, width, 3) of one size.
        base: the base model, whose VAE encodes them.

    Returns:
        Latents (len(images), channels, h, w).

    Raises:
        EngineError: one image does not fit into memory.
        RuntimeError: the VAE failed for another reason.
    """
    rows, first = images_at_once(*images[0].shape[:2]), 0
    parts: list[Tensor] = []
    while first < len(images):
        try:
            parts.append(_batch_of_latents(images[first : first + rows], base))
            first += rows
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if rows == 1:
                size = "x".join(map(str, images[0].shape[1::-1]))
                raise EngineError(f"the VAE cannot encode one image of {size}: {error}") from error
            rows //= 2
            log.warning("out of memory; going on with %d images at once", rows)
            if base.pipe.vae.device.type == "cuda":
                torch.cuda.empty_cache()
    return torch.cat(parts).to(base.denoiser.dtype)


@torch.no_grad()
def _batch_of_latents(images: Sequence[npt.NDArray[np.uint8]], base: BaseModel) -> Tensor:
    vae = base.pipe.vae
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    pixels = (pixels.to(vae.device, vae.dtype) / 127.5 - 1).contiguous()
    return base.family.latents(vae, vae.encode(pixels).latent_dist.mode())
