"""Audits: what must hold of the rooms before a release, and of a release afterwards.

Each function checks one claim over files and returns a finding with its numbers; the release
refuses while one fails, and Dagster's asset checks show the same findings.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import pyarrow.parquet as pq

from alignguard_data import manifest as manifests
from alignguard_data.errors import IntegrityError
from alignguard_data.findings import Finding, finding, prompt_faults, schema_fault
from alignguard_data.funnel import KEPT, FunnelRow, Manifests, concept_manifests, funnel, sum_faults
from alignguard_data.paths import DataRoot
from alignguard_data.records import (
    DroppedPair,
    PreferencePair,
    PromptPair,
    RejectedImage,
    RejectedReply,
    RenderedImage,
    Score,
    schema_of,
)
from alignguard_data.release_audit import audit_release as audit_release
from alignguard_data.safety import concept_refusal
from alignguard_data.taxonomy import Taxonomy

_RECORDS: dict[str, dict[str, type]] = {
    "prompts": {"pairs": PromptPair, "rejected": RejectedReply},
    "images": {"images": RenderedImage, "rejected": RejectedImage},
    "scores": {"scores": Score, "rejected": RejectedImage},
    "pairs": {"kept": PreferencePair, "dropped": DroppedPair},
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AuditBounds:
    """Within which rates a dataset is believed. All shares are of what reached the test."""

    min_unsafe_flagged: float = 0.1
    """Fewer flagged unsafe images mean a blind scorer, or a base model that draws no harm."""
    max_safe_flagged: float = 0.5
    """More flagged safe images mean twins that are not safe, or a scorer that flags anything."""
    max_rejected_replies: float = 0.8
    min_train_pairs_per_category: int = 1

    def __post_init__(self) -> None:
        for name in ("min_unsafe_flagged", "max_safe_flagged", "max_rejected_replies"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.min_train_pairs_per_category < 0:
            raise ValueError(
                "min_train_pairs_per_category must not be negative, "
                f"got {self.min_train_pairs_per_category}"
            )


def audit_rooms(data: DataRoot, taxonomy: Taxonomy, bounds: AuditBounds) -> list[Finding]:
    """Every check of the rooms from prompts to pairs.

    Raises:
        InputMissing: a partition is not complete, so there is nothing to judge yet.
    """
    found = concept_manifests(data, taxonomy)
    rows = funnel(taxonomy, found)
    sound = hashes(data, found)
    checks = [
        sound,
        funnel_sums(taxonomy, found, rows),
        split_leaks(taxonomy),
        flag_rates(taxonomy, rows, bounds),
    ]
    if sound.passed:  # what is damaged cannot be read
        checks += [schema(data, found), minors(data, taxonomy)]
    return checks


def schema(data: DataRoot, found: Manifests) -> Finding:
    """Every shard has exactly its record's columns."""
    faults = []
    for (room, key), manifest in found.items():
        folder = data.partition(room, key)
        for stem, record in _RECORDS[room].items():
            name = manifest.file(stem).name
            if problem := schema_fault(pq.read_schema(folder / name), schema_of(record)):
                faults.append(f"{room}/{key}/{name}: {problem}")
    return finding("schema", faults, {"shards": sum(len(_RECORDS[room]) for room, _ in found)})


def hashes(data: DataRoot, found: Manifests) -> Finding:
    """Every file of every manifest has its size and sha256."""
    faults = []
    for (room, key), manifest in found.items():
        try:
            manifest.verify(data.partition(room, key))
        except IntegrityError as error:
            faults.append(str(error))
    return finding("hashes", faults, {"files": sum(len(m.files) for m in found.values())})


def funnel_sums(taxonomy: Taxonomy, found: Manifests, rows: Sequence[FunnelRow]) -> Finding:
    """Each stage's kept and lost rows sum to what came in."""
    kept = sum(row.rows for row in rows if row.stage == "pairs" and row.reason == KEPT)
    numbers = {
        "requests": sum(
            m.counts["requests"] for (room, _), m in found.items() if room == "prompts"
        ),
        "kept": kept,
    }
    return finding("funnel_sums", sum_faults(taxonomy, found, rows), numbers)


def split_leaks(taxonomy: Taxonomy) -> Finding:
    """No concept, and no term of one, stands in both splits; rows are checked in the release."""
    named: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    for concept in taxonomy.concepts:
        for word in (concept.key, concept.name, *concept.terms):
            named[concept.split][word.casefold()] = concept.key
    shared = sorted(set(named["train"]) & set(named["test"]))
    faults = [f"{named['train'][w]} and {named['test'][w]} share {w!r}" for w in shared]
    counts = Counter(concept.split for concept in taxonomy.concepts)
    return finding(
        "split_leaks", faults, {"train_concepts": counts["train"], "test_concepts": counts["test"]}
    )


def flag_rates(taxonomy: Taxonomy, rows: Sequence[FunnelRow], bounds: AuditBounds) -> Finding:
    """Shares of flagged images and rejected replies, and pairs a category, within bounds."""
    sums: Counter[tuple[str, str]] = Counter()
    categories = {c.category: 0 for c in taxonomy.concepts if c.split == "train"}
    for row in rows:
        sums[row.stage, row.reason] += row.rows
        if row.stage == "pairs" and row.reason == KEPT and row.split == "train":
            categories[row.category] += row.rows
    replies = sum(n for (stage, _), n in sums.items() if stage == "prompts")
    pairs = {reason: n for (stage, reason), n in sums.items() if stage == "pairs"}
    judged = sum(pairs.values()) - pairs.get("image_missing", 0) - pairs.get("minors", 0)
    clean = pairs.get("unsafe_image_is_clean", 0)
    numbers = {
        "unsafe_flagged": _share(judged - clean, judged),
        # Only pairs with a flagged unsafe image reach the test of the safe one.
        "safe_flagged": _share(pairs.get("safe_image_is_flagged", 0), judged - clean),
        "rejected_replies": _share(replies - sums["prompts", KEPT], replies),
        "fewest_train_pairs": min(categories.values(), default=0),
    }
    tests = (
        ("unsafe_flagged", numbers["unsafe_flagged"] >= bounds.min_unsafe_flagged, "under",
         bounds.min_unsafe_flagged),
        ("safe_flagged", numbers["safe_flagged"] <= bounds.max_safe_flagged, "over",
         bounds.max_safe_flagged),
        ("rejected_replies", numbers["rejected_replies"] <= bounds.max_rejected_replies, "over",
         bounds.max_rejected_replies),
    )  # fmt: skip
    faults = [
        f"{name} {numbers[name]:.3f} is {how} {bound}"
        for name, holds, how, bound in tests
        if not holds
    ]
    least = bounds.min_train_pairs_per_category
    faults += [
        f"category {key} has {n} train pairs, fewer than {least}"
        for key, n in sorted(categories.items())
        if n < least
    ]
    return finding("flag_rates", faults, numbers)


def minors(data: DataRoot, taxonomy: Taxonomy) -> Finding:
    """No concept and no accepted prompt speaks of minors; faults show redacted prompts."""
    faults = [
        f"concept {concept.key} is refused ({reason})"
        for concept in taxonomy.concepts
        if (reason := concept_refusal(concept.name, concept.terms))
    ]
    looked = 0
    for concept in taxonomy.concepts:
        table = manifests.read(
            data.partition("prompts", concept.key),
            "pairs",
            columns=["unsafe_prompt", "safe_prompt"],
        )
        looked += 2 * table.num_rows
        faults += [f"{concept.key}: {fault}" for fault in prompt_faults(table)]
    return finding("minors", faults, {"prompts": looked})


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
