"""The record of each room's shards, and the parts of rows that manifests keep digests of.

The audit, the index and Dagster's column pages read this table. A room that reads only a part of
another room's rows depends on that part's digest (see :func:`alignguard_data.storage.basis.reads`).

The manifest counts the rows of a room's first shard.
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
"""Part of the prompts' rows: the pairs to render; the others are for evaluation."""
FILES = "files"
"""Part of the images' rows: the image ids."""
LOOKS = "looks"
"""Part of the images' rows: the image ids and perceptual hashes."""
SCORED = "scored images"
"""Part of the scores' rows: the images and pairs that have scores."""


def score_part(scorer: str, key: str) -> str:
    """Name the part of the scores' rows that holds one number of one scorer.

    Args:
        scorer: name of the scorer.
        key: which of its numbers.

    Returns:
        Name of the part in a manifest's digests.
    """
    return f"{scorer}/{key}"
