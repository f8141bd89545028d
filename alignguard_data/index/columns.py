"""Meanings of the columns of the index's tables and views.

A column has the same meaning wherever it appears, except those in ``IN_ONE_VIEW``.
"""

from collections.abc import Mapping

from alignguard_data.audit.funnel import FunnelRow
from alignguard_data.contracts.column_meanings import meanings
from alignguard_data.contracts.records import (
    Concept,
    DroppedPair,
    PreferencePair,
    PromptPair,
    RejectedReply,
    RenderedImage,
    Score,
)
from alignguard_data.release.columns import meaning as released

_RECORDS = (
    Concept,
    FunnelRow,
    DroppedPair,
    RejectedReply,
    RenderedImage,
    PreferencePair,
    PromptPair,
    Score,
)

COLUMNS: Mapping[str, str] = {
    **{
        name: text
        for record in _RECORDS
        for name, text in meanings(record).items()
        if name != "image"  # images stay in their shards
    },
    **{name: released(name) for name in ("caption", "sha256_0", "sha256_1")},
    "reason": "Reason slug of the filter that dropped the pair",
    # manifests
    "room": "Name of the room",
    "partition": "Key of the partition",
    "fingerprint": "64-bit hash (hex) of the partition's configuration, models and inputs",
    "content_id": "128-bit hash (hex) of the partition's files",
    "rejected": "Number of refused and dropped rows",
    "bytes": "Size of the partition's files",
    "seconds": "Seconds of the last attempt",
    "run_id": "Dagster's run that made the partition; empty outside Dagster",
    "models": "Revision by model id, as JSON",
    "config": "Settings that change the output, as JSON",
    # thresholds and verdicts
    "at_least": "Threshold of the flag rule: the score from which an image is flagged",
    "version": "Scorer version that the threshold was calibrated with; null accepts any",
    "images": "Number of images",
    "mean": "Mean of the scores",
    "share_at_half": "Share of the images with a score of at least 0.5",
    "share_at_nine_tenths": "Share of the images with a score of at least 0.9",
    "flagged": "Share of the images that the rule flags",
    "over": "Score minus threshold",
    "kept": "Whether the filter kept the pair",
    "kept_share": "Kept pairs over kept and dropped ones; null before the filter has run",
    "dropped": "Number of pairs that the filter dropped",
    "pairs": "Number of prompt pairs",
    "evaluation": "Prompt pairs that are reserved for evaluation",
    "duplicate_of": "Id of the pair that is kept instead",
    "verdict": "Kept, dropped, not rendered, or reserved for evaluation",
    # both images of a pair
    "unsafe_image_id": "Image_id of the unsafe prompt's image",
    "safe_image_id": "Image_id of the safe prompt's image",
    # releases and adapters
    "release": "Version of the release, as v1.2.3",
    "folder": "Folder of the release",
    "releases": "Versions of the releases that contain the pair",
    "adapter": "Category of an expert, or strategy of a merge",
    "adapters": "Adapters that were trained on the pair",
    "categories": "Categories of the pairs that the adapter was trained on",
    "release_content_id": "Content id of the release that the adapter was trained on",
    "file": "Path of the weight file",
    "sha256": "Sha256 (hex) of the weight file",
    "added": "Pairs that only the newer release has",
    "removed": "Pairs that only the older release has",
    "changed": "Pairs of both releases with another image",
    "in_both": "Pairs of both releases",
}

IN_ONE_VIEW: Mapping[tuple[str, str], str] = {
    ("concepts", "key"): meanings(Concept)["key"],
    ("funnel", "reason"): meanings(FunnelRow)["reason"],
    ("funnel_totals", "reason"): meanings(FunnelRow)["reason"],
    ("coverage", "kept"): "Number of pairs that the filter kept",
    ("manifests", "rows"): "Rows of the partition's first table",
    ("rejected_images", "reason"): "Reason slug: constant, corrupt",
    ("unscored_images", "reason"): "Reason slug of a scorer that gave no number",
    ("rejected_replies", "reason"): meanings(RejectedReply)["reason"],
}
"""By view and column."""


def meaning(view: str, column: str) -> str:
    """Describe a column of a table or view of the index.

    Args:
        view: name of the table, view or macro.
        column: name of the column.

    Returns:
        Its meaning.

    Raises:
        KeyError: the column has no description.
    """
    return IN_ONE_VIEW.get((view, column)) or COLUMNS[column]
