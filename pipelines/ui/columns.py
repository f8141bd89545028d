"""The columns of every asset's rows, and their upstream columns."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath

import dagster as dg
import pyarrow as pa

from alignguard_data.contracts.column_meanings import meanings
from alignguard_data.contracts.records import schema_of
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.release.columns import meaning
from alignguard_data.release.room import show_release
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.parquet_files import open_parquet
from alignguard_data.storage.places import Place
from pipelines.tables import MEANINGS
from pipelines.ui.metadata import COLUMN_SCHEMA, column_lineage, table_schema

Origins = Mapping[str, Sequence[tuple[str, str]]]
"""Column to its upstream assets and columns."""

_CONCEPT = {"concept": [("taxonomy", "key")], "category": [("taxonomy", "category")]}
_PROMPTS = [("prompt_pairs", "unsafe_prompt"), ("prompt_pairs", "safe_prompt")]
_PIXELS = [("image_pairs", "image")]

LINEAGE: Mapping[str, Origins] = {
    "prompts": _CONCEPT,
    "images": {
        "pair_id": [("prompt_pairs", "pair_id")],
        "concept": [("prompt_pairs", "concept")],
        "prompt": _PROMPTS,
        "seed": [("prompt_pairs", "pair_id")],
    },
    "scores": {
        "subject_id": [("image_pairs", "image_id"), ("prompt_pairs", "pair_id")],
        "pair_id": [("image_pairs", "pair_id")],
        "concept": [("image_pairs", "concept")],
        "side": [("image_pairs", "side")],
        "value": [*_PIXELS, *_PROMPTS],
    },
    "pairs": {
        "pair_id": [("prompt_pairs", "pair_id"), ("scores", "value")],
        "concept": [("prompt_pairs", "concept")],
        "category": [("prompt_pairs", "category")],
        "unsafe_prompt": [("prompt_pairs", "unsafe_prompt")],
        "safe_prompt": [("prompt_pairs", "safe_prompt")],
        "chosen_image_id": [("image_pairs", "image_id")],
        "rejected_image_id": [("image_pairs", "image_id")],
    },
}

_SAME_IN_IMAGES = (
    "seed", "base_model", "base_revision", "num_inference_steps", "guidance_scale", "width",
    "height",
)  # fmt: skip

RELEASE_LINEAGE: Origins = {
    "jpg_0": _PIXELS,
    "jpg_1": _PIXELS,
    "caption": [("preference_pairs", "unsafe_prompt")],
    "caption_safe": [("preference_pairs", "safe_prompt")],
    **{name: [("preference_pairs", name)] for name in ("pair_id", "concept", "category")},
    "categories": [("preference_pairs", "category")],
    **{name: [("image_pairs", name)] for name in _SAME_IN_IMAGES},
    "sha256_0": [("preference_pairs", "chosen_image_id")],
    "sha256_1": [("preference_pairs", "rejected_image_id")],
    "phash_0": [("image_pairs", "phash")],
    "phash_1": [("image_pairs", "phash")],
}


def room_columns(profile: str, room: str) -> dict[str, dg.MetadataValue]:
    """Schema and lineage of a room's rows, equal for all its partitions."""
    record, *others = SHARD_RECORDS[room].items()
    shown = table_schema(schema_of(record[1]), meanings(record[1]))
    for shard, other in others:
        shown |= table_schema(schema_of(other), meanings(other), key=f"columns of {shard}")
    return shown | column_lineage(profile, LINEAGE[room]) if room in LINEAGE else shown


def file_columns(manifest: Manifest, folder: Place) -> dict[str, dg.MetadataValue]:
    """Schemas of a finished partition's tables, read from its files.

    Args:
        manifest: of the partition.
        folder: of the partition.

    Returns:
        The first table's columns for the UI's "Columns" tab, then those of each other table.
    """
    known = MEANINGS[manifest.room]
    shown: dict[str, dg.MetadataValue] = {}
    for file in manifest.files:
        table = PurePath(file.name).stem
        if file.name.endswith(".parquet"):
            with open_parquet(folder / file.name) as shard:
                key = f"columns of {table}" if shown else COLUMN_SCHEMA
                shown |= table_schema(shard.schema_arrow, known[table], key=key)
    return shown


def first_data_file(release: Place) -> Place:
    """One data file of a release's first non-empty split."""
    files = [file["name"] for file in show_release(release)["files"]]
    return release / next(name for name in files if name.startswith("data/"))


def release_columns(profile: str, file: Place) -> dict[str, dg.MetadataValue]:
    """Schema and lineage of a release's rows with scores, read from one data file."""
    with open_parquet(file) as shard:
        schema: pa.Schema = shard.schema_arrow
    scores = {name: [("scores", "value")] for name in schema.names if name.startswith("score_")}
    lineage = column_lineage(profile, {**RELEASE_LINEAGE, **scores})
    return table_schema(schema, {name: meaning(name) for name in schema.names}) | lineage
