"""From a release to what training reads: latents of both images, states of both captions."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from alignguard_data.backends.conditions import Conditions, concatenated, encode_texts
from alignguard_data.errors import IntegrityError
from alignguard_train.base import BaseModel

COLUMNS = ("pair_id", "category", "caption", "caption_safe", "jpg_0", "jpg_1")
ENCODE_ROWS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Preferences:
    """Pairs in release order; images are uint8 RGB (height, width, 3)."""

    pair_ids: list[str]
    categories: list[str]
    unsafe_prompts: list[str]
    safe_prompts: list[str]
    chosen: list[npt.NDArray[np.uint8]]
    rejected: list[npt.NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPreferences:
    """Latents (pairs, channels, h, w), scaled; conditions of both captions, one row a pair.

    ``chosen_flipped`` and ``rejected_flipped`` are the latents of the mirrored images, where a
    recipe flips. ``empty`` has one row, that of a dropped caption.
    """

    categories: list[str]
    chosen: Tensor
    rejected: Tensor
    unsafe: Conditions
    safe: Conditions
    empty: Conditions
    chosen_flipped: Tensor | None = None
    rejected_flipped: Tensor | None = None

    def __len__(self) -> int:
        return len(self.categories)


def load_preferences(
    release: Path, categories: Sequence[str] | None = None, *, split: str = "train"
) -> Preferences:
    """Read one split of a release, only the rows of ``categories`` (None: all).

    Raises:
        IntegrityError: no shard, a missing column, or an image that cannot be decoded, by name.
    """
    shards = sorted((release / "data").glob(f"{split}-*.parquet"))
    if not shards:
        raise IntegrityError(f"{release / 'data'} has no {split}-*.parquet")
    rows: list[dict[str, object]] = []
    wanted = None if categories is None else [("category", "in", list(categories))]
    for shard in shards:
        missing = set(COLUMNS) - set(pq.read_schema(shard).names)
        if missing:
            raise IntegrityError(f"{shard} lacks column(s) {', '.join(sorted(missing))}")
        table = pq.read_table(shard, columns=list(COLUMNS), filters=wanted)
        rows += [{**row, "shard": shard.name} for row in table.to_pylist()]
    return Preferences(
        pair_ids=[str(row["pair_id"]) for row in rows],
        categories=[str(row["category"]) for row in rows],
        unsafe_prompts=[str(row["caption"]) for row in rows],
        safe_prompts=[str(row["caption_safe"]) for row in rows],
        chosen=[_decode(row, "jpg_0") for row in rows],
        rejected=[_decode(row, "jpg_1") for row in rows],
    )


def _decode(row: dict[str, object], column: str) -> npt.NDArray[np.uint8]:
    content = row[column]
    try:
        if not isinstance(content, bytes):
            raise IntegrityError(f"{row['shard']}: {column} of {row['pair_id']} is not bytes")
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        place = f"{row['shard']}: {column} of {row['pair_id']}"
        raise IntegrityError(f"{place} is not a readable image: {error}") from error


@torch.no_grad()
def encode(preferences: Preferences, base: BaseModel, *, flip: bool = False) -> EncodedPreferences:
    """Encode images with the VAE (mode of its distribution, scaled) and captions, in batches.

    ``flip``: also the mirrored images. They are encoded, as mirrored latents are not the latents
    of a mirrored image.
    """
    mirrored: dict[str, Tensor] = {}
    if flip:
        for name in ("chosen", "rejected"):
            images = [image[:, ::-1] for image in getattr(preferences, name)]
            mirrored[f"{name}_flipped"] = _latents(images, base)
    return EncodedPreferences(
        categories=preferences.categories,
        chosen=_latents(preferences.chosen, base),
        rejected=_latents(preferences.rejected, base),
        unsafe=encode_prompts(preferences.unsafe_prompts, base),
        safe=encode_prompts(preferences.safe_prompts, base),
        empty=encode_prompts([""], base),
        **mirrored,
    )


def encode_prompts(prompts: Sequence[str], base: BaseModel) -> Conditions:
    """Conditions of captions by the base model's own encoders, in batches."""
    return concatenated(
        [
            encode_texts(base.pipe, prompts[i : i + ENCODE_ROWS])
            for i in range(0, len(prompts), ENCODE_ROWS)
        ]
    )


def _latents(images: Sequence[npt.NDArray[np.uint8]], base: BaseModel) -> Tensor:
    vae = base.pipe.vae
    parts = []
    for i in range(0, len(images), ENCODE_ROWS):
        pixels = torch.from_numpy(np.stack(images[i : i + ENCODE_ROWS])).permute(0, 3, 1, 2)
        pixels = (pixels.to(vae.device, vae.dtype) / 127.5 - 1).contiguous()
        parts.append(vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor)
    return torch.cat(parts).to(base.pipe.unet.dtype)
