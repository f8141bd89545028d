"""Which record the rows of each shard of each room are: the one table that the audit, the index
and the columns shown in Dagster read.

A room's first shard is the one whose rows its manifest counts.
"""

from collections.abc import Mapping

from alignguard_data.records import (
    Concept,
    DroppedPair,
    PreferencePair,
    PromptPair,
    RejectedImage,
    RejectedReply,
    RenderedImage,
    Score,
)

SHARD_RECORDS: Mapping[str, Mapping[str, type]] = {
    "taxonomy": {"concepts": Concept},
    "prompts": {"pairs": PromptPair, "rejected": RejectedReply},
    "images": {"images": RenderedImage, "rejected": RejectedImage},
    "scores": {"scores": Score, "rejected": RejectedImage},
    "pairs": {"kept": PreferencePair, "dropped": DroppedPair},
}
"""Room to shard to record."""


def first_record(room: str) -> type:
    """The record of a room's first shard; KeyError for a room whose rows are no records."""
    return next(iter(SHARD_RECORDS[room].values()))
