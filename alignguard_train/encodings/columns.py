"""Meanings of the columns of the encodings' table."""

from collections.abc import Mapping

from alignguard_data.contracts.column_meanings import meanings
from alignguard_data.contracts.records import PromptPair

MEANINGS: Mapping[str, Mapping[str, str]] = {
    "rows": {
        "place": "Row of the pair in the release's train split, from 0",
        **{name: meanings(PromptPair)[name] for name in ("pair_id", "concept", "category")},
        "shard": "File of the partition that holds the pair's latents and text encodings",
    },
}
"""Meaning by table and column."""
