"""Which record the rows of each shard of each room are.

The one table that the audit, the index and the columns shown in Dagster read; and the parts of the
rows of which a manifest keeps digests, since a later room reads no more (see
:func:`alignguard_data.storage.basis.reads`).

A room's first shard is the one whose rows its manifest counts.
"""

from collections.abc import Mapping

from alignguard_data.contracts.records import (
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


TRAIN = "train"
"""Part of the prompts' rows: the pairs that are rendered; the others are for evaluation."""
FILES = "files"
"""Part of the images' rows: which files there are."""
LOOKS = "looks"
"""Part of the images' rows: which files there are, with their perceptual hashes."""
SCORED = "scored images"
"""Part of the scores' rows: which images, and which pairs, have scores at all."""


def score_part(scorer: str, key: str) -> str:
    """Part of the scores' rows: one number of one scorer."""
    return f"{scorer}/{key}"


def first_record(room: str) -> type:
    """The record of a room's first shard; KeyError for a room whose rows are no records."""
    return next(iter(SHARD_RECORDS[room].values()))
