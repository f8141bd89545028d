"""Plans the rows of a release from near-duplicate edges, before reading images."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from alignguard_data.audit.funnel import FunnelRow, concept_manifests, funnel, stage_rows, totals
from alignguard_data.contracts.records import Concept, PromptPair
from alignguard_data.contracts.vocabulary import CONCEPT_CHECK
from alignguard_data.dedup.decide import Decision, count, decide, leak_report, leaks
from alignguard_data.dedup.edges import Edge, Limits
from alignguard_data.prompts.hard_negatives import read_origins
from alignguard_data.release import withdrawals
from alignguard_data.release.hard_rows import hard_field
from alignguard_data.release.rows import evaluation_pairs, kept_ids, score_columns
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.shards import ShardFile
from alignguard_data.taxonomy.parse import Taxonomy

EDITED = "edited_pairs"
"""Entry of a base model whose safe images are edits of the unsafe ones: the strength."""
SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReleasePlan:
    """Rows are sorted by category, concept and pair id.

    So a filter on a category skips row groups, and writing needs one concept's images in memory.
    """

    concepts: tuple[Concept, ...]
    pair_ids: dict[str, list[str]]
    """Released pairs by concept key."""
    evaluation: dict[str, list[PromptPair]]
    decision: Decision
    """Dropped rows: leaks into measured rows, and duplicates within a split."""
    edges: list[Edge]
    concept_of: dict[str, str]
    """Concept key by kept or evaluation pair."""
    lost: dict[str, str]
    """Reason slug by kept pair that is not released."""
    funnel: list[FunnelRow]
    score_columns: list[str]


def release_concepts(taxonomy: Taxonomy) -> tuple[Concept, ...]:
    """The concepts in the row order of a release."""
    return tuple(sorted(taxonomy.concepts, key=lambda c: (c.category, c.key)))


def plan_release(
    data: DataRoot,
    taxonomy: Taxonomy,
    edges: Sequence[Edge],
    withdrawn: Collection[str] = frozenset(),
) -> ReleasePlan:
    """Choose the rows: all kept pairs but withdrawn ones, leaks and duplicates.

    Args:
        data: the data folder.
        taxonomy: its concepts, each in one split.
        edges: among all kept pairs and evaluation prompts, which rows are too close.
        withdrawn: ids of pairs that are left out.

    Returns:
        The rows by concept, and what was left out with its reason.

    Raises:
        InputMissing: an input is not complete.
    """
    concepts = release_concepts(taxonomy)
    kept_of = {concept.key: kept_ids(data, concept) for concept in concepts}
    left = {key: [pair for pair in kept if pair not in withdrawn] for key, kept in kept_of.items()}
    evaluation = {
        concept.key: [
            pair for pair in evaluation_pairs(data, concept) if pair.pair_id not in withdrawn
        ]
        for concept in concepts
    }
    train, test = (
        [pair for c in concepts if c.split == split for pair in left[c.key]] for split in SPLITS
    )
    reserved = [pair.pair_id for pairs in evaluation.values() for pair in pairs]
    found = {row.pair_id for concept in concepts for row in read_origins(data, concept.key)}
    decision = decide(edges, train, test, reserved, later=found)
    lost = decision.reasons | {
        pair: withdrawals.REASON for kept in kept_of.values() for pair in kept if pair in withdrawn
    }
    released = {key: [pair for pair in kept if pair not in lost] for key, kept in kept_of.items()}
    return ReleasePlan(
        concepts=concepts,
        pair_ids=released,
        evaluation=evaluation,
        decision=decision,
        edges=list(edges),
        concept_of={pair: key for key, kept in kept_of.items() for pair in kept}
        | {pair.pair_id: key for key, pairs in evaluation.items() for pair in pairs},
        lost=lost,
        funnel=_full_funnel(data, taxonomy, kept_of, lost),
        score_columns=score_columns(data, concepts),
    )


def describe_release(
    data: DataRoot, taxonomy: Taxonomy, plan: ReleasePlan, files: Sequence[ShardFile]
) -> dict[str, Any]:
    """The fields of the release manifest that depend on its rows and inputs.

    Args:
        data: the data folder.
        taxonomy: its concepts.
        plan: the chosen rows.
        files: the written data files.

    Returns:
        JSON values; the same for the same rows, whenever they are written.
    """
    rows: dict[str, Counter[str]] = {c.key: Counter() for c in taxonomy.categories}
    for concept in plan.concepts:
        rows[concept.category][concept.split] += len(plan.pair_ids[concept.key])
        rows[concept.category]["evaluation"] += len(plan.evaluation[concept.key])
    parts = (*SPLITS, "evaluation")
    images = [manifests.require(data.partition("images", c.key)) for c in plan.concepts]
    prompts = [manifests.require(data.partition("prompts", c.key)) for c in plan.concepts]
    scores = [manifests.require(data.partition("scores", c.key)) for c in plan.concepts]
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
        "writers": sorted(
            {f"{m} at {r}" for p in prompts for m, r in p.models.items() if m != CONCEPT_CHECK}
        ),
        "concept_checks": sorted(
            {p.models[CONCEPT_CHECK] for p in prompts if CONCEPT_CHECK in p.models}
        ),
        "rows": {part: sum(n[part] for n in rows.values()) for part in parts},
        "by_category": {key: {part: n[part] for part in parts} for key, n in rows.items()},
        "by_concept": {key: len(pairs) for key, pairs in plan.pair_ids.items()},
        "funnel": [list(row) for row in totals(plan.funnel)],
        "leaks": dict(sorted(Counter(row.kind for row in plan.decision.leaks).items())),
        "duplicates": count(plan.decision.duplicates),
        "score_columns": plan.score_columns,
        "scorers": sorted({f"{m} at {r}" for s in scores for m, r in s.models.items()}),
        "flags": _flags(data, plan.concepts),
        **hard_field(data, plan.concepts, plan.pair_ids),
    }


def leaks_file(plan: ReleasePlan, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Content of ``leaks.json``; remaining leaks are counted in the released rows.

    Args:
        plan: the chosen rows.
        manifest: of the release, with its limits.

    Returns:
        JSON values.
    """
    released = {
        split: [p for c in plan.concepts if c.split == split for p in plan.pair_ids[c.key]]
        for split in SPLITS
    }
    reserved = [pair for pairs in plan.evaluation.values() for pair in pairs]
    held_out = [*released["test"], *(pair.pair_id for pair in reserved)]
    remaining = leaks(plan.edges, released["train"], held_out)
    return leak_report(
        plan.decision,
        {kind: len(rows) for kind, rows in remaining.items()},
        Limits(**manifest["limits"]),
        manifest["embedder"],
        plan.concept_of,
    )


def _full_funnel(
    data: DataRoot,
    taxonomy: Taxonomy,
    kept: Mapping[str, Sequence[str]],
    lost: Mapping[str, str],
) -> list[FunnelRow]:
    rows = funnel(taxonomy, concept_manifests(data, taxonomy))
    for concept in taxonomy.concepts:
        gone = Counter(lost[pair] for pair in kept[concept.key] if pair in lost)
        rows += stage_rows(concept, "release", len(kept[concept.key]) - gone.total(), gone)
    return rows


def _base_models(images: Sequence[Manifest]) -> list[dict[str, Any]]:
    # One entry per model and sampling; a release of one profile has one.
    found = {}
    for manifest in images:
        how = manifest.config
        width, height = how.get("width"), how.get("height")
        for model, revision in manifest.models.items():
            entry = {
                "model": model,
                "revision": revision,
                "steps": how.get("num_inference_steps"),
                "guidance": how.get("guidance_scale"),
                "size": None if None in (width, height) else f"{width}x{height}",
                **({"solver": how["solver"]} if "solver" in how else {}),
                **({EDITED: how[EDITED]["strength"]} if EDITED in how else {}),
            }
            found[tuple(entry.items())] = entry
    return [found[key] for key in sorted(found, key=str)]


def _flags(data: DataRoot, concepts: Sequence[Concept]) -> list[dict[str, Any]]:
    # The flag rules of the filter: one set, unless concepts were filtered separately. The scorer's
    # version tells apart a threshold that was calibrated again and came out the same.
    found = {}
    for concept in concepts:
        for rule in manifests.require(data.partition("pairs", concept.key)).config["flags"]:
            version = rule.get("version") or ""
            found[rule["scorer"], rule["key"], rule["at_least"], version] = rule
    return [found[key] for key in sorted(found)]
