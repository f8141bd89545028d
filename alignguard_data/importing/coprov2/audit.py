"""The audit of a CoProV2 import: counts that sum exactly to its rows."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.importing.categories import CATEGORIES
from alignguard_data.importing.coprov2.files import TRAIN_NAME, CsvFile
from alignguard_data.importing.coprov2.leaks import TrainPrompts
from alignguard_data.importing.coprov2.pairs import Candidate
from alignguard_data.importing.records import RejectedRow

PARTS = ("train", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Where each row of ``files`` went: to a record of ``kept``, or to ``rejected``."""

    files: Sequence[CsvFile]
    categories: Mapping[str, tuple[str, ...]]
    kept: Sequence[Candidate]
    rejected: Sequence[RejectedRow]


def audit(outcome: Outcome) -> dict[str, Any]:
    """Count what became of the rows; contains no prompt.

    Args:
        outcome: the rows, and where each went.

    Returns:
        The content of ``audit.json`` as JSON values.

    Raises:
        IntegrityError: a row went nowhere, or to two places.
    """
    check_sums(outcome)
    return {
        "dataset": "coprov2",
        "files": _files(outcome),
        "rows": _rows(outcome),
        "reasons": dict(sorted(Counter(row.reason for row in outcome.rejected).items())),
        "rows_by_category": _rows_by_category(outcome),
        "records_by_category": _records_by_category(outcome),
        "multi_category": _multi_category(outcome),
        "one_sided_pairs": _one_sided(outcome),
        "duplicate_prompts": _duplicates(outcome),
        "leaked_test_rows": _leaked(outcome),
    }


def check_sums(outcome: Outcome) -> None:
    """Check that each row has exactly one record or one rejection.

    Args:
        outcome: the rows, and where each went.

    Raises:
        IntegrityError: a row went nowhere, or to two places; the first three are named.
    """
    ends = Counter((row.file, row.row) for row in outcome.rejected)
    for candidate in outcome.kept:
        ends.update((row.file, row.row) for rows in candidate.rows.values() for row in rows)
    rows = {(row.file, row.row) for file in outcome.files for row in file.rows}
    wrong = [place for place in rows | ends.keys() if ends[place] != 1 or place not in rows]
    if wrong:
        first = sorted(wrong)[:3]
        raise IntegrityError(f"{len(wrong)} rows are not counted exactly once, such as {first}")


def _files(outcome: Outcome) -> list[dict[str, Any]]:
    rejected = Counter(row.file for row in outcome.rejected)
    return [
        {
            "file": file.name,
            "part": file.part,
            "sha256": file.sha256,
            "rows": len(file.rows),
            "rejected": rejected[file.name],
            "blank_lines": file.blank_lines,
            "ignored_columns": list(file.ignored_columns),
        }
        for file in outcome.files
    ]


def _rows(outcome: Outcome) -> dict[str, int]:
    """Counts of rows, which add up.

    ``total = train + test = behind_records + rejected``, and ``behind_records = 2 * pairs +
    test_prompts + further_category_rows``.
    """
    counted = Counter({part: 0 for part in PARTS})
    for file in outcome.files:
        counted[file.part] += len(file.rows)
    pairs = sum(len(candidate.rows) == 2 for candidate in outcome.kept)
    behind = sum(len(rows) for candidate in outcome.kept for rows in candidate.rows.values())
    prompts = len(outcome.kept) - pairs
    return {
        "total": sum(counted.values()),
        **counted,
        "pairs": pairs,
        "test_prompts": prompts,
        "further_category_rows": behind - 2 * pairs - prompts,
        "behind_records": behind,
        "rejected": len(outcome.rejected),
    }


def _rows_by_category(outcome: Outcome) -> list[dict[str, Any]]:
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for file in outcome.files:
        for row in file.rows:
            counted[row.category][file.part] += 1
    return [
        {
            "spelling": spelling,
            "categories": list(outcome.categories[spelling]),
            **{part: counts[part] for part in PARTS},
        }
        for spelling, counts in sorted(counted.items())
    ]


def _records_by_category(outcome: Outcome) -> dict[str, dict[str, int]]:
    counted = Counter((kept.pair.category, kept.origin.part) for kept in outcome.kept)
    return {key: {part: counted[key, part] for part in PARTS} for key in CATEGORIES}


def _multi_category(outcome: Outcome) -> dict[str, Any]:
    several = [kept for kept in outcome.kept if len(kept.origin.categories) > 1]
    combinations = Counter(" + ".join(kept.origin.categories) for kept in several)
    parts = Counter(kept.origin.part for kept in several)
    return {
        "pairs": parts["train"],
        "test_prompts": parts["test"],
        "by_combination": dict(combinations.most_common()),
    }


def _one_sided(outcome: Outcome) -> dict[str, int]:
    """Numbers of pairs that have only one side in the files."""
    sides: dict[int, set[str]] = defaultdict(set)
    for file in outcome.files:
        for row in file.rows if file.part == "train" else ():
            if name := TRAIN_NAME.fullmatch(row.image):
                sides[int(name["number"])].add(name["side"])
    single = Counter(next(iter(found)) for found in sides.values() if len(found) == 1)
    return {"unsafe_only": single["u"], "safe_only": single["s"]}


def _duplicates(outcome: Outcome) -> dict[str, dict[str, int]]:
    """Prompts that occur in several pairs (train) or in several rows (test)."""
    pairs: dict[str, dict[str, set[object]]] = {
        name: defaultdict(set) for name in ("train_unsafe", "train_safe", "test")
    }
    for file in outcome.files:
        for row in file.rows:
            name = TRAIN_NAME.fullmatch(row.image)
            if not row.prompt:
                continue
            if file.part == "test":
                pairs["test"][row.prompt].add((row.file, row.row))
            elif name:
                side = "train_unsafe" if name["side"] == "u" else "train_safe"
                pairs[side][row.prompt].add(int(name["number"]))
    return {name: _repeated(found) for name, found in pairs.items()}


def _repeated(places: Mapping[str, set[object]]) -> dict[str, int]:
    several = [len(found) for found in places.values() if len(found) > 1]
    return {"prompts": len(several), "places": sum(several)}


def _leaked(outcome: Outcome) -> dict[str, int]:
    """Test rows whose prompt occurs in train; ``casefolded`` includes the exact ones."""
    train = TrainPrompts(outcome.files)
    rows = [row.prompt for file in outcome.files if file.part == "test" for row in file.rows]
    leaks = Counter(train.leak(prompt) for prompt in rows)
    exact = leaks["exact"]
    return {"of": len(rows), "exact": exact, "casefolded": exact + leaks["casefolded"]}
