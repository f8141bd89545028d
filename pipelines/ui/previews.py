"""Small pictures of a few pairs for the UI; all images are blurred, even unflagged ones.

Reads only the first rows of a shard, which may be gigabytes; the rooms verify it.
"""

import io
from collections.abc import Collection, Iterator
from typing import Any

import dagster as dg
import numpy as np
import numpy.typing as npt
from PIL import Image

from alignguard_data.safety.blur import preview_sheet
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.parquet_files import open_parquet
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place
from pipelines.ui.metadata import pictures

PAIRS_SHOWN = 6
MOST_PREVIEWED = 64
"""Runs over more partitions get no pictures, as the event log keeps them all."""

NAME = "preview (unsafe above safe, all blurred)"
_MOST_READ = 512
_QUALITY = 80

Encoded = list[tuple[bytes, bytes]]
"""Unsafe and safe image of each pair."""


def images_preview(
    data: DataRoot, concept: str, only: Collection[str] | None = None
) -> dict[str, dg.MetadataValue]:
    """The first pairs of a concept's images; ``only``: restrict to these ids."""
    folder = data.partition("images", concept)
    columns = ["pair_id", "side", "image"]
    sides: dict[str, dict[str, bytes]] = {}
    pairs: Encoded = []
    for row in _first_rows(folder / manifests.require(folder).file("images").name, columns):
        if only is not None and row["pair_id"] not in only:
            continue
        held = sides.setdefault(row["pair_id"], {})
        held[row["side"]] = row["image"]
        if len(held) == 2:
            pairs.append((held["unsafe"], held["safe"]))
            if len(pairs) == PAIRS_SHOWN:
                break
    return _shown(pairs)


def kept_preview(data: DataRoot, concept: str) -> dict[str, dg.MetadataValue]:
    """The first kept pairs."""
    kept = manifests.read(data.partition("pairs", concept), "kept", columns=["pair_id"])
    return images_preview(data, concept, set(kept["pair_id"].to_pylist()))


def release_preview(file: Place) -> dict[str, dg.MetadataValue]:
    """The first pairs of one data file of a release."""
    pairs: Encoded = []
    for row in _first_rows(file, ["jpg_0", "jpg_1"]):
        pairs.append((row["jpg_1"], row["jpg_0"]))
        if len(pairs) == PAIRS_SHOWN:
            break
    return _shown(pairs)


def _first_rows(file: Place, columns: list[str]) -> Iterator[dict[str, Any]]:
    with open_parquet(file) as shard:
        read = 0
        for batch in shard.iter_batches(batch_size=2 * PAIRS_SHOWN, columns=columns):
            yield from batch.to_pylist()
            read += batch.num_rows
            if read >= _MOST_READ:
                return


def _shown(pairs: Encoded) -> dict[str, dg.MetadataValue]:
    if not pairs:
        return {}
    try:
        images = [_pixels(pair[side]) for side in (0, 1) for pair in pairs]
    except OSError as error:  # a broken picture must not lose a finished partition's numbers
        return {NAME: dg.MetadataValue.text(f"an image cannot be decoded: {error}")}
    grid = preview_sheet(images, [None] * len(images), columns=len(pairs))
    small = io.BytesIO()
    grid.save(small, format="JPEG", quality=_QUALITY)
    return pictures({NAME: small.getvalue()})


def _pixels(encoded: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
