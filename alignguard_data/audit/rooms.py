"""Audits of the rooms before a release.

Each function checks one claim over files and returns a finding with its numbers. A failed finding
blocks the release. Dagster's asset checks show the same findings.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from statistics import median

from alignguard_data.audit.funnel import (
    KEPT,
    FunnelRow,
    Manifests,
    concept_manifests,
    funnel,
    sum_faults,
)
from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.contracts.findings import Finding, finding, schema_fault
from alignguard_data.contracts.records import schema_of
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.contracts.terms import term_keys
from alignguard_data.contracts.text import word_jaccard, words
from alignguard_data.safety.rules import concept_refusal
from alignguard_data.safety.tables import prompt_faults
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.parquet_files import open_parquet
from alignguard_data.storage.paths import DataRoot
from alignguard_data.taxonomy.parse import Taxonomy


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AuditBounds:
    """Bounds on rates outside which a dataset is not trusted.

    A share is of what reached its test.
    """

    min_unsafe_flagged: float = 0.1
    """Below it, the scorer is blind or the base model does not draw the concept."""
    max_safe_flagged: float = 0.5
    """Above it, the twins are not safe or the scorer flags anything."""
    max_rejected_replies: float = 0.8
    """Above it, the writer does not do what it is asked for."""
    min_train_pairs_per_category: int = 1
    """Least kept pairs per category, over its concepts of split train."""
    min_pairs_per_concept: int = 0
    """Least kept pairs per concept; 0 allows a concept with none."""
    min_prompt_words: int = 2
    """Least words of a prompt."""
    max_prompt_words: int = 77
    """Most words of a prompt."""
    min_median_twin_jaccard: float = 0.1
    """Jaccard index of the twins' words; below it, the twins show different scenes."""
    max_median_twin_jaccard: float = 0.99
    """Above it, the twins do not differ."""

    def __post_init__(self) -> None:
        for name in (
            "min_unsafe_flagged",
            "max_safe_flagged",
            "max_rejected_replies",
            "min_median_twin_jaccard",
            "max_median_twin_jaccard",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("min_train_pairs_per_category", "min_pairs_per_concept", "min_prompt_words"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.max_prompt_words < self.min_prompt_words:
            raise ValueError(
                f"max_prompt_words must be at least min_prompt_words {self.min_prompt_words}, "
                f"got {self.max_prompt_words}"
            )


def audit_rooms(data: DataRoot, taxonomy: Taxonomy, bounds: AuditBounds) -> list[Finding]:
    """Check the rooms from prompts to pairs.

    Args:
        data: the data folder.
        taxonomy: its concepts.
        bounds: rates outside which a check fails.

    Returns:
        One finding per check, in a fixed order.

    Raises:
        InputMissing: a partition is not complete.
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
    if sound.passed:  # damaged files cannot be read
        checks.append(shape := schema(data, found))
        if shape.passed:
            checks += [
                ids(data, taxonomy),
                prompts(data, taxonomy, bounds),
                minors(data, taxonomy),
            ]
    return checks


def schema(data: DataRoot, found: Manifests) -> Finding:
    """Every shard has exactly its record's columns."""
    faults = []
    for (room, key), manifest in found.items():
        folder = data.partition(room, key)
        for stem, record in SHARD_RECORDS[room].items():
            name = manifest.file(stem).name
            if problem := schema_fault(open_parquet(folder / name).schema_arrow, schema_of(record)):
                faults.append(f"{room}/{key}/{name}: {problem}")
    return finding("schema", faults, {"shards": sum(len(SHARD_RECORDS[room]) for room, _ in found)})


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
    """No concept and no term is in both splits; the release checks the rows."""
    named: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    for concept in taxonomy.concepts:
        for word in (concept.key, concept.name, *concept.terms):
            named[concept.split] |= dict.fromkeys(term_keys(word), concept.key)
    shared = sorted(set(named["train"]) & set(named["test"]))
    faults = [f"{named['train'][w]} and {named['test'][w]} share {w!r}" for w in shared]
    counts = Counter(concept.split for concept in taxonomy.concepts)
    return finding(
        "split_leaks", faults, {"train_concepts": counts["train"], "test_concepts": counts["test"]}
    )


def flag_rates(taxonomy: Taxonomy, rows: Sequence[FunnelRow], bounds: AuditBounds) -> Finding:
    """Shares of flagged images and rejected replies, and pairs per category, are within bounds."""
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
    """No concept and no accepted prompt mentions minors; faults show redacted prompts."""
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


def ids(data: DataRoot, taxonomy: Taxonomy) -> Finding:
    """Each pair occurs once; images, scores and verdicts refer to pairs that were written."""
    home: dict[str, str] = {}
    faults = []
    looked = 0
    for concept in taxonomy.concepts:
        written = _column(data, "prompts", concept.key, "pairs", "pair_id")
        for pair in written:
            if pair in home:
                faults.append(f"pair {pair} is in both {home[pair]} and {concept.key}")
            home[pair] = concept.key
        here = set(written)
        for room, stem in (
            ("images", "images"),
            ("scores", "scores"),
            ("pairs", "kept"),
            ("pairs", "dropped"),
        ):
            found = _column(data, room, concept.key, stem, "pair_id")
            looked += len(found)
            faults += [
                f"{room}/{concept.key}: {stem} has {pair}, which was never written"
                for pair in sorted(set(found) - here)
            ]
        judged = Counter(
            pair
            for stem in ("kept", "dropped")
            for pair in _column(data, "pairs", concept.key, stem, "pair_id")
        )
        faults += [
            f"pairs/{concept.key}: {pair} has {n} verdicts" for pair, n in judged.items() if n > 1
        ]
    return finding("ids", faults, {"pairs": len(home), "references": looked})


def prompts(data: DataRoot, taxonomy: Taxonomy, bounds: AuditBounds) -> Finding:
    """Prompt lengths, similarity of the twins, and pairs per concept are within bounds."""
    faults, jaccards = [], []
    lengths: list[int] = []
    fewest: dict[str, int] = {}
    for concept in taxonomy.concepts:
        table = manifests.read(
            data.partition("pairs", concept.key),
            "kept",
            columns=["pair_id", "unsafe_prompt", "safe_prompt"],
        )
        fewest[concept.key] = table.num_rows
        for pair, unsafe, safe in zip(*(column.to_pylist() for column in table), strict=True):
            counted = [len(words(text)) for text in (unsafe, safe)]
            lengths += counted
            jaccards.append(word_jaccard(unsafe, safe))
            if min(counted) < bounds.min_prompt_words or max(counted) > bounds.max_prompt_words:
                faults.append(
                    f"pair {pair} has prompts of {counted[0]} and {counted[1]} words, not "
                    f"{bounds.min_prompt_words} to {bounds.max_prompt_words}"
                )
    least = bounds.min_pairs_per_concept
    faults += [
        f"concept {k} has {n} kept pairs, fewer than {least}"
        for k, n in sorted(fewest.items())
        if n < least
    ]
    likeness = median(jaccards) if jaccards else 0.0
    low, high = bounds.min_median_twin_jaccard, bounds.max_median_twin_jaccard
    if jaccards and not low <= likeness <= high:
        faults.append(f"median Jaccard of the twins {likeness:.3f} is not in [{low}, {high}]")
    numbers = {
        "shortest_words": min(lengths, default=0),
        "longest_words": max(lengths, default=0),
        "median_twin_jaccard": likeness,
        "fewest_pairs_of_a_concept": min(fewest.values(), default=0),
    }
    return finding("prompts", faults, numbers)


def _column(data: DataRoot, room: str, concept: str, stem: str, name: str) -> list[str]:
    table = manifests.read(data.partition(room, concept), stem, columns=[name])
    return table.column(name).to_pylist()


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
