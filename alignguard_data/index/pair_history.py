"""One pair's history from the index, and a picture of its two images."""

import io
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.index.sql import query
from alignguard_data.safety.blur import preview_grid
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot

log = logging.getLogger(__name__)
SIDES = ("unsafe", "safe")


@dataclass(frozen=True, kw_only=True, slots=True)
class PairHistory:
    """The rows of the index on one pair.

    Attributes:
        lineage: the pair's row of the view.
        scores: side (empty for the pair), scorer, key, value, version and the threshold that
            applies.
        releases: the releases that contain it, with its split.
        adapters: those trained on it, with room, partition and sha256 of the file.
    """

    lineage: dict[str, Any]
    scores: list[dict[str, Any]]
    releases: list[dict[str, Any]]
    adapters: list[dict[str, Any]]


def load_pair_history(data: DataRoot, prefix: str) -> PairHistory:
    """Collect everything that the index has on a pair.

    Args:
        data: the data folder.
        prefix: id of the pair, or its beginning.

    Returns:
        Its lineage, scores, releases and adapters.

    Raises:
        InputMissing: no pair or several pairs match, or there is no index.
    """
    found = _rows(data, "select * from lineage where starts_with(pair_id, ?) limit 5", prefix)
    if not found or not prefix:
        raise InputMissing(f"no pair of the index begins with {prefix!r}")
    if len(found) > 1:
        some = ", ".join(row["pair_id"] for row in found)
        raise InputMissing(f"more than one pair begins with {prefix!r}: {some}")
    pair = found[0]["pair_id"]
    return PairHistory(
        lineage=found[0],
        # With thresholds of every scorer version: in doubt a picture is blurred.
        scores=_rows(
            data,
            """select s.side, s.scorer, s.key, s.value, r.at_least, s.scorer_version
            from scores s left join flag_rules r on r.scorer = s.scorer and r.key = s.key
            where s.pair_id = ? order by all""",
            pair,
        ),
        releases=_rows(
            data, "select release, split from release_pairs where pair_id = ? order by all", pair
        ),
        adapters=_rows(
            data,
            """select adapter, release, room, partition, sha256 from pair_adapters
            where pair_id = ? order by all""",
            pair,
        ),
    )


def pair_picture(data: DataRoot, history: PairHistory, *, reveal: bool = False) -> bytes | None:
    """Draw the unsafe image next to the safe one.

    An image is blurred unless it is scored and no rule flags it.

    Args:
        data: the data folder.
        history: of the pair.
        reveal: show the images unblurred, which is logged.

    Returns:
        A PNG, or None if they were not rendered.

    Raises:
        IntegrityError: the shard differs from its manifest.
    """
    pair = history.lineage["pair_id"]
    if not history.lineage["unsafe_image_id"]:
        return None
    columns = ["pair_id", "side", "image"]
    folder = data.partition("images", history.lineage["concept"])
    rows = manifests.read(folder, "images", columns=columns).to_pylist()
    encoded = {row["side"]: row["image"] for row in rows if row["pair_id"] == pair}
    if reveal:
        log.warning("the images of pair %s were revealed", pair)
    pixels = [np.asarray(Image.open(io.BytesIO(encoded[side])).convert("RGB")) for side in SIDES]
    return preview_grid(pixels, [_flag(history, side) for side in SIDES], reveal=reveal)


def _flag(history: PairHistory, side: str) -> bool | None:
    held = [s for s in history.scores if s["side"] == side and s["at_least"] is not None]
    return any(s["value"] >= s["at_least"] for s in held) if held else None


def _rows(data: DataRoot, sql: str, *parameters: str) -> list[dict[str, Any]]:
    columns, rows = query(data, sql, parameters)
    return [dict(zip(columns, row, strict=True)) for row in rows]
