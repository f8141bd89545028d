"""What goes into a release, decided from captions and hashes before any image is read."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from alignguard_data import manifest as manifests
from alignguard_data import withdrawals
from alignguard_data.funnel import FunnelRow, concept_manifests, funnel, stage_rows, totals
from alignguard_data.leaks import REASON, Leak, Measured, find_leaks
from alignguard_data.manifest import Manifest
from alignguard_data.paths import DataRoot
from alignguard_data.records import Concept, PromptPair
from alignguard_data.release_rows import evaluation_pairs, kept_rows, score_columns
from alignguard_data.shards import ShardFile
from alignguard_data.taxonomy import Taxonomy

SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReleasePlan:
    """Rows are sorted by category, concept and pair id: a filter on a category then skips row
    groups, and writing holds one concept's images in memory at a time."""

    concepts: tuple[Concept, ...]
    pair_ids: dict[str, list[str]]
    """Concept key to its released pairs."""
    evaluation: dict[str, list[PromptPair]]
    leaks: list[Leak]
    withdrawn: frozenset[str]
    """Kept pairs that someone took back."""
    funnel: list[FunnelRow]
    score_columns: list[str]


def plan_release(
    data: DataRoot,
    taxonomy: Taxonomy,
    max_phash_distance: int,
    withdrawn: Collection[str] = frozenset(),
) -> ReleasePlan:
    """Choose the rows: all kept pairs but those withdrawn, and the train pairs that leak into
    test or evaluation."""
    concepts = tuple(sorted(taxonomy.concepts, key=lambda c: (c.category, c.key)))
    kept_of = {concept.key: kept_rows(data, concept) for concept in concepts}
    rows = {
        key: [row for row in kept if row.pair_id not in withdrawn] for key, kept in kept_of.items()
    }
    evaluation = {
        concept.key: [
            pair for pair in evaluation_pairs(data, concept) if pair.pair_id not in withdrawn
        ]
        for concept in concepts
    }
    held_out = [row for c in concepts if c.split == "test" for row in rows[c.key]]
    held_out += [_measured(pair) for pairs in evaluation.values() for pair in pairs]
    train = [row for c in concepts if c.split == "train" for row in rows[c.key]]
    leaks = find_leaks(train, held_out, max_phash_distance)
    leaking = {leak.pair_id for leak in leaks}
    released = {
        key: [row.pair_id for row in kept if row.pair_id not in leaking]
        for key, kept in rows.items()
    }
    return ReleasePlan(
        concepts=concepts,
        pair_ids=released,
        evaluation=evaluation,
        leaks=leaks,
        withdrawn=frozenset(
            row.pair_id for kept in kept_of.values() for row in kept if row.pair_id in withdrawn
        ),
        funnel=_whole_funnel(data, taxonomy, kept_of, released, leaks),
        score_columns=score_columns(data, concepts),
    )


def describe_release(
    data: DataRoot, taxonomy: Taxonomy, plan: ReleasePlan, files: Sequence[ShardFile]
) -> dict[str, Any]:
    """The release manifest's fields that its rows and inputs decide."""
    rows: dict[str, Counter[str]] = {c.key: Counter() for c in taxonomy.categories}
    for concept in plan.concepts:
        rows[concept.category][concept.split] += len(plan.pair_ids[concept.key])
        rows[concept.category]["evaluation"] += len(plan.evaluation[concept.key])
    parts = (*SPLITS, "evaluation")
    images = [manifests.require(data.partition("images", c.key)) for c in plan.concepts]
    prompts = [manifests.require(data.partition("prompts", c.key)) for c in plan.concepts]
    return {
        "profile": data.profile,
        "tier": "full",
        "content_id": manifests.content_id(tuple(files)),
        "files": [dataclasses.asdict(file) for file in files],
        "taxonomy": {
            "name": taxonomy.name,
            "version": taxonomy.version,
            "concepts": len(taxonomy.concepts),
        },
        "base_models": _base_models(images),
        "writers": sorted({f"{m} at {r}" for p in prompts for m, r in p.models.items()}),
        "rows": {part: sum(n[part] for n in rows.values()) for part in parts},
        "by_category": {key: {part: n[part] for part in parts} for key, n in rows.items()},
        "by_concept": {key: len(pairs) for key, pairs in plan.pair_ids.items()},
        "funnel": [list(row) for row in totals(plan.funnel)],
        "leaks": dict(Counter(leak.kind for leak in plan.leaks)),
        "score_columns": plan.score_columns,
    }


def _whole_funnel(
    data: DataRoot,
    taxonomy: Taxonomy,
    kept: Mapping[str, Sequence[Measured]],
    released: Mapping[str, Sequence[str]],
    leaks: Sequence[Leak],
) -> list[FunnelRow]:
    lost = Counter(leak.concept for leak in leaks)
    rows = funnel(taxonomy, concept_manifests(data, taxonomy))
    for concept in taxonomy.concepts:
        key = concept.key
        gone = len(kept[key]) - len(released[key]) - lost[key]
        dropped = {
            reason: n for reason, n in ((REASON, lost[key]), (withdrawals.REASON, gone)) if n
        }
        rows += stage_rows(concept, "release", len(released[key]), dropped)
    return rows


def _base_models(images: Sequence[Manifest]) -> list[dict[str, Any]]:
    # One entry a model and way of drawing; a release of one profile has one.
    found = {}
    for manifest in images:
        how = manifest.config
        for model, revision in manifest.models.items():
            entry = {
                "model": model,
                "revision": revision,
                "steps": how.get("num_inference_steps"),
                "guidance": how.get("guidance_scale"),
                "size": f"{how.get('width')}x{how.get('height')}",
            }
            found[tuple(entry.values())] = entry
    return [found[key] for key in sorted(found, key=str)]


def _measured(pair: PromptPair) -> Measured:
    return Measured(
        pair_id=pair.pair_id,
        concept=pair.concept,
        category=pair.category,
        captions=(pair.unsafe_prompt, pair.safe_prompt),
    )
