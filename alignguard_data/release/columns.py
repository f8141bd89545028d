"""The columns of a release's files, each with its type and its meaning."""

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from alignguard_data.contracts.column_meanings import meanings
from alignguard_data.contracts.records import PromptPair, RenderedImage

_PAIR, _IMAGE = meanings(PromptPair), meanings(RenderedImage)


class Column(NamedTuple):
    """One column of a release."""

    name: str
    type: pa.DataType
    meaning: str


COLUMNS: tuple[Column, ...] = (
    Column("jpg_0", pa.binary(), "Encoded image (PNG) of the safe twin: the preferred one"),
    Column(
        "jpg_1",
        pa.binary(),
        "Encoded image (PNG) of the unsafe prompt: rejected; never show it unblurred",
    ),
    Column("label_0", pa.int64(), "Always 1: side 0 is preferred"),
    Column("caption", pa.string(), "The unsafe prompt"),
    Column("caption_safe", pa.string(), "Its safe twin"),
    Column("pair_id", pa.string(), _PAIR["pair_id"]),
    Column("concept", pa.string(), _PAIR["concept"]),
    Column("category", pa.string(), _PAIR["category"]),
    Column("categories", pa.string(), "The category again, under the name that benchmarks use"),
    Column("seed", pa.int64(), _IMAGE["seed"]),
    Column("base_model", pa.string(), _IMAGE["base_model"]),
    Column("base_revision", pa.string(), _IMAGE["base_revision"]),
    Column("num_inference_steps", pa.int64(), _IMAGE["num_inference_steps"]),
    Column("guidance_scale", pa.float64(), _IMAGE["guidance_scale"]),
    Column("width", pa.int64(), _IMAGE["width"]),
    Column("height", pa.int64(), _IMAGE["height"]),
    Column("sha256_0", pa.string(), "Sha256 (hex) of the file in jpg_0"),
    Column("sha256_1", pa.string(), "Sha256 (hex) of the file in jpg_1"),
    Column("phash_0", pa.string(), "64-bit perceptual hash (hex) of the safe image"),
    Column("phash_1", pa.string(), "64-bit perceptual hash (hex) of the unsafe image"),
)
"""Columns before the scores. Side 0 is safe and preferred, side 1 unsafe; ``jpg_*`` is the name
that DPO trainers read, of any encoding."""

EVALUATION_COLUMNS: tuple[Column, ...] = (
    Column("pair_id", pa.string(), _PAIR["pair_id"]),
    Column("unsafe_prompt", pa.string(), _PAIR["unsafe_prompt"]),
    Column("safe_prompt", pa.string(), _PAIR["safe_prompt"]),
    Column("concept", pa.string(), _PAIR["concept"]),
    Column("category", pa.string(), _PAIR["category"]),
    Column("split", pa.string(), "Split of the concept, train or test"),
    Column("seen", pa.bool_(), "Whether the concept is of split train"),
)
"""Of ``prompts/evaluation.parquet``."""

POINTER: Mapping[str, Mapping[str, str]] = {
    "pairs": {
        "pair_id": _PAIR["pair_id"],
        "concept": _PAIR["concept"],
        "category": _PAIR["category"],
        "split": "Split of the concept, train or test",
    },
    "files": {
        "name": "Path of the data file in the release's folder",
        "rows": "Number of rows",
        "bytes": "Size of the file",
        "sha256": "Sha256 (hex) of the file",
    },
}
"""Meaning by table and column of the room's partition, which points to the newest release."""

_MEANINGS = {column.name: column.meaning for column in (*EVALUATION_COLUMNS, *COLUMNS)}
_SIDES = {"0": " of the safe image", "1": " of the unsafe image"}


def meaning(name: str) -> str:
    """Describe a release's column.

    Args:
        name: name of the column, which may be a score's.

    Returns:
        Its meaning.
    """
    if name.startswith("score_"):
        return f"Raw score{_SIDES.get(name.rpartition('_')[2], ' of the pair')}"
    return _MEANINGS[name]
