"""What changed between two releases, by pair: for the change log, the version and `release diff`.

Reads ids and hashes only, never an image.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from alignguard_data.release_audit import rows_of
from alignguard_data.storage import Place
from alignguard_data.withdrawals import Withdrawal

Level = Literal["major", "minor", "patch"]
Change = Literal["added", "removed", "changed"]
SPLITS = ("train", "test")

_COLUMNS = ("pair_id", "concept", "category", "sha256_0", "sha256_1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedPair:
    """One pair that is not in both releases with the same images."""

    pair_id: str
    concept: str
    category: str
    split: str
    change: Change


def diff(old: Place, new: Place) -> list[ChangedPair]:
    """Every pair added, removed, or changed (same prompts, other images or split), by id."""
    before, after = _rows(old), _rows(new)
    found = []
    for identity in sorted(before.keys() | after.keys()):
        row = after.get(identity) or before[identity]
        if identity not in before:
            change: Change = "added"
        elif identity not in after:
            change = "removed"
        elif before[identity] != after[identity]:
            change = "changed"
        else:
            continue
        found.append(
            ChangedPair(
                pair_id=identity, concept=row[1], category=row[2], split=row[0], change=change
            )
        )
    return found


def by_category(changes: list[ChangedPair]) -> dict[str, dict[str, int]]:
    """Category to the number of pairs added, removed and changed."""
    counts = Counter((pair.category, pair.change) for pair in changes)
    kinds = ("added", "removed", "changed")
    return {
        category: {kind: counts[category, kind] for kind in kinds}
        for category in sorted({pair.category for pair in changes})
    }


def level(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    changes: list[ChangedPair],
    withdrawn: Collection[str],
    left: Collection[str],
) -> Level:
    """What the version says: ``major`` for other columns or another base model; ``patch`` where
    pairs only went because they, or their concept, were withdrawn, or words alone changed;
    ``minor`` for everything else.

    ``old`` and ``new`` are the releases' manifests, ``left`` the concepts that are gone.
    """
    for field in ("score_columns", "base_models", "format"):
        if old.get(field) != new.get(field):
            return "major"
    wanted = (
        pair.change == "removed" and (pair.pair_id in withdrawn or pair.concept in left)
        for pair in changes
    )
    return "patch" if all(wanted) else "minor"


def change_log(
    name: str,
    parent: str | None,
    changes: list[ChangedPair],
    withdrawn: Mapping[str, Withdrawal],
    left: Collection[str],
) -> str:
    """CHANGELOG.md: pairs added, removed and changed against the parent, by split and concept.

    ``withdrawn`` are the withdrawals, of which those of removed pairs are named with their
    reason; ``left`` are the concepts that are no longer in the taxonomy.
    """
    lines = [f"# {name}", ""]
    if parent is None:
        return "\n".join([*lines, "The first release.", ""])
    lines += [f"Against {parent}:", ""]
    for split in SPLITS:
        here = [pair for pair in changes if pair.split == split]
        counts = Counter(pair.change for pair in here)
        lines.append(
            f"- {split}: {counts['added']} pairs added, {counts['removed']} removed, "
            f"{counts['changed']} changed"
        )
        concepts = Counter((pair.change, pair.concept) for pair in here)
        lines += [f"  - {kind} {concept}: {n}" for (kind, concept), n in sorted(concepts.items())]
    if left:
        lines += ["", "Withdrawn concepts (kept on disk, in no release from here on):", ""]
        lines += [f"- {concept}" for concept in sorted(left)]
    gone = [pair.pair_id for pair in changes if pair.change == "removed"]
    named = [withdrawn[identity] for identity in gone if identity in withdrawn]
    if named:
        lines += ["", "Withdrawn pairs:", ""]
        lines += [f"- `{entry.pair_id}`: {entry.reason}" for entry in named]
    return "\n".join([*lines, ""])


def _rows(folder: Place) -> dict[str, tuple[str, str, str, str, str]]:
    """Pair id to split, concept, category and both images' hashes."""
    return {
        row["pair_id"]: (split, row["concept"], row["category"], row["sha256_0"], row["sha256_1"])
        for split in SPLITS
        for row in rows_of(folder, split, _COLUMNS).to_pylist()
    }
