"""The funnel: rows that each stage kept and lost, by concept and reason.

Read from the manifests only. The rows of a stage sum to what the stage before kept. Stage
``images`` counts both images of a pair, so it sums to twice the pairs of role ``train``.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from alignguard_data.contracts.records import Concept
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import map_concurrently
from alignguard_data.taxonomy.parse import Taxonomy

KEPT = "kept"
STAGES = ("prompts", "roles", "images", "scores", "pairs", "release")
CONCEPT_ROOMS = ("prompts", "images", "scores", "pairs")
"""The rooms partitioned by concept, in the order of the flow."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FunnelRow:
    """Rows of one concept that one stage kept or lost for one reason."""

    concept: str
    """Key of the concept: category, dot, slug."""
    category: str
    """Category of the concept."""
    split: str
    """Split of the concept, train or test."""
    stage: str
    """Room whose rows are counted, or roles: the split in training and evaluation."""
    reason: str
    """Kept, or the reason slug."""
    rows: int
    """Number of rows."""


Manifests = Mapping[tuple[str, str], Manifest]
"""Room and concept key to the partition's manifest."""


def concept_manifests(data: DataRoot, taxonomy: Taxonomy) -> dict[tuple[str, str], Manifest]:
    """Read the manifest of every concept in every room that is partitioned by concept.

    Args:
        data: the data folder.
        taxonomy: its concepts.

    Returns:
        Manifest by room and concept key.

    Raises:
        InputMissing: naming the first partition that is not complete.
    """
    places = [(room, concept.key) for room in CONCEPT_ROOMS for concept in taxonomy.concepts]
    found = map_concurrently(
        data.root, lambda place: manifests.require(data.partition(*place)), places
    )
    return dict(zip(places, found, strict=True))


def funnel(taxonomy: Taxonomy, found: Manifests) -> list[FunnelRow]:
    """Count the rows that each stage kept and lost.

    Args:
        taxonomy: its concepts, in whose order the rows are.
        found: manifest by room and concept key.

    Returns:
        The stages up to ``pairs`` of every concept.
    """
    rows: list[FunnelRow] = []
    for concept in taxonomy.concepts:
        prompts, images, scores, pairs = (found[room, concept.key] for room in CONCEPT_ROOMS)
        evaluation = prompts.counts["evaluation"]
        rows += stage_rows(concept, "prompts", prompts.rows, prompts.rejected)
        rows += stage_rows(concept, "roles", prompts.counts["train"], {"evaluation": evaluation})
        rows += stage_rows(concept, "images", images.rows, images.rejected)
        rows += stage_rows(concept, "scores", scores.counts["images"], scores.rejected)
        rows += stage_rows(concept, "pairs", pairs.rows, pairs.rejected)
    return rows


def stage_rows(concept: Concept, stage: str, kept: int, lost: Mapping[str, int]) -> list[FunnelRow]:
    """Make the rows of one concept and stage.

    Args:
        concept: the concept.
        stage: name of the stage.
        kept: number of rows kept.
        lost: number of rows lost by reason slug.

    Returns:
        One row for those kept, and one per reason.
    """
    return [
        FunnelRow(
            concept=concept.key,
            category=concept.category,
            split=concept.split,
            stage=stage,
            reason=reason,
            rows=rows,
        )
        for reason, rows in ((KEPT, kept), *sorted(lost.items()))
    ]


def totals(rows: Sequence[FunnelRow]) -> list[tuple[str, str, int]]:
    """Sum rows over concepts.

    Args:
        rows: rows of several concepts.

    Returns:
        Stage, reason and rows, with the stages in order and ``kept`` first in each.
    """
    sums: dict[tuple[str, str], int] = {}
    for row in rows:
        sums[row.stage, row.reason] = sums.get((row.stage, row.reason), 0) + row.rows
    ordered = sorted(sums, key=lambda key: (STAGES.index(key[0]), key[1] != KEPT, key[1]))
    return [(stage, reason, sums[stage, reason]) for stage, reason in ordered]


def sum_faults(taxonomy: Taxonomy, found: Manifests, rows: Sequence[FunnelRow]) -> list[str]:
    """Every stage of a concept whose rows do not sum to its input."""
    taken: dict[tuple[str, str], int] = {}
    kept: dict[tuple[str, str], int] = {}
    for row in rows:
        place = (row.concept, row.stage)
        taken[place] = taken.get(place, 0) + row.rows
        if row.reason == KEPT:
            kept[place] = row.rows
    faults = []
    for concept in taxonomy.concepts:
        key = concept.key
        train = kept[key, "roles"]
        expected = {
            "prompts": found["prompts", key].counts["requests"],
            "roles": kept[key, "prompts"],
            "images": 2 * train,
            "scores": kept[key, "images"],
            "pairs": train,
        }
        if (key, "release") in taken:
            expected["release"] = kept[key, "pairs"]
        faults += [
            f"{key}: stage {stage} sums to {taken[key, stage]}, not {wanted}"
            for stage, wanted in expected.items()
            if taken[key, stage] != wanted
        ]
    return faults
