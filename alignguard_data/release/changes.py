"""Differences between two releases by pair, for the change log, the version and `release diff`.

Reads all columns except the images, which are compared by their hash columns.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.prompts.hard_negatives import HardNegativeOrigin
from alignguard_data.release.checks import read_manifest, rows_of
from alignguard_data.release.reader import EVALUATION
from alignguard_data.release.withdrawals import Withdrawal
from alignguard_data.storage.parquet_files import open_parquet
from alignguard_data.storage.places import Place, list_folder, size

Level = Literal["major", "minor", "patch"]
Change = Literal["added", "removed", "changed"]
KINDS: tuple[Change, ...] = ("added", "removed", "changed")
SPLITS = ("train", "test")
PARTS = (*SPLITS, "evaluation")
"""The splits, and the evaluation prompts."""

_IMAGES = ("jpg_0", "jpg_1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedPair:
    """A pair that differs between two releases, or is in only one.

    Attributes:
        pair_id: id of the pair.
        concept: key of the concept.
        category: its category.
        split: ``train``, ``test``, or ``evaluation`` for a pair of evaluation prompts.
        change: added, removed or changed.
    """

    pair_id: str
    concept: str
    category: str
    split: str
    change: Change


def diff(old: Place, new: Place) -> list[ChangedPair]:
    """Compare two releases.

    Changed: the same prompts with other images, scores or split, or another value in any column
    that both releases have.

    Args:
        old: folder of a release.
        new: folder of another one.

    Returns:
        Pairs added, removed or changed, by part and id.

    Raises:
        IntegrityError: a file of rows is missing or damaged.
    """
    found = []
    for parts in (SPLITS, ("evaluation",)):
        before, after = _rows(old, parts), _rows(new, parts)
        for identity in sorted(before.keys() | after.keys()):
            was, row = before.get(identity), after.get(identity)
            if was is None:
                change: Change = "added"
            elif row is None:
                change = "removed"
            elif any(was[name] != row[name] for name in was.keys() & row.keys()):
                change = "changed"
            else:
                continue
            shown = row or was or {}
            found.append(
                ChangedPair(
                    pair_id=identity,
                    concept=shown["concept"],
                    category=shown["category"],
                    split=shown["part"],
                    change=change,
                )
            )
    return found


def published_diff(old: Place, new: Place) -> list[ChangedPair]:
    """Compare two finished releases as :func:`diff` does, after checking both.

    Args:
        old: folder of a release.
        new: folder of another one.

    Returns:
        Pairs added, removed or changed, by part and id.

    Raises:
        IntegrityError: one of them is not a release, or is damaged.
    """
    for folder in (old, new):
        _check_files(folder)
    return diff(old, new)


def by_category(changes: list[ChangedPair]) -> dict[str, dict[str, int]]:
    """Number of pairs added, removed and changed by category, without evaluation prompts."""
    pairs = [pair for pair in changes if pair.split in SPLITS]
    counts = Counter((pair.category, pair.change) for pair in pairs)
    return {
        category: {kind: counts[category, kind] for kind in KINDS}
        for category in sorted({pair.category for pair in pairs})
    }


def evaluation_changes(changes: list[ChangedPair]) -> dict[str, int]:
    """Number of evaluation prompt pairs added, removed and changed."""
    counts = Counter(pair.change for pair in changes if pair.split not in SPLITS)
    return {kind: counts[kind] for kind in KINDS}


def level(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    changes: list[ChangedPair],
    withdrawn: Collection[str],
    left: Collection[str],
) -> Level:
    """The version level.

    ``major`` for other columns or another base model. ``patch`` if the only change is that pairs,
    evaluation prompts or concepts were withdrawn. ``minor`` for everything else, such as other
    scores, or other files of equal rows.

    Args:
        old: the parent's manifest.
        new: the new release's manifest.
        changes: pairs and evaluation prompts that differ.
        withdrawn: ids of withdrawn pairs.
        left: keys of concepts that are no longer in the taxonomy.

    Returns:
        ``major``, ``minor`` or ``patch``.
    """
    for field in ("score_columns", "base_models", "format"):
        if old.get(field) != new.get(field):
            return "major"
    wanted = [
        pair.change == "removed" and (pair.pair_id in withdrawn or pair.concept in left)
        for pair in changes
    ]
    return "patch" if wanted and all(wanted) else "minor"


def change_log(
    name: str,
    parent: str | None,
    changes: list[ChangedPair],
    withdrawn: Mapping[str, Withdrawal],
    left: Collection[str],
    hard: Mapping[str, HardNegativeOrigin] | None = None,
) -> str:
    """Pairs added, removed and changed against the parent, by part and concept.

    Args:
        name: of the new release.
        parent: name of the release before, or None for the first.
        changes: pairs and evaluation prompts that differ.
        withdrawn: withdrawals by pair id; those of removed pairs are listed with their reason.
        left: keys of concepts that are no longer in the taxonomy.
        hard: the new release's hard negatives; those added are counted by attack.

    Returns:
        CHANGELOG.md.
    """
    lines = [f"# {name}", ""]
    if parent is None:
        return "\n".join([*lines, "The first release.", ""])
    lines += [f"Against {parent}:", ""]
    for part in PARTS:
        here = [pair for pair in changes if pair.split == part]
        counts = Counter(pair.change for pair in here)
        what = "pairs" if part in SPLITS else "pairs of prompts"
        lines.append(
            f"- {part}: {counts['added']} {what} added, {counts['removed']} removed, "
            f"{counts['changed']} changed"
        )
        concepts = Counter((pair.change, pair.concept) for pair in here)
        lines += [f"  - {kind} {concept}: {n}" for (kind, concept), n in sorted(concepts.items())]
    lines += _added_by_attack(changes, hard or {})
    if not changes:
        lines += ["", "No row differs: the same rows lie in other files."]
    if left:
        lines += ["", "Withdrawn concepts (kept on disk, in no release from here on):", ""]
        lines += [f"- {concept}" for concept in sorted(left)]
    gone = [pair.pair_id for pair in changes if pair.change == "removed"]
    named = [withdrawn[identity] for identity in gone if identity in withdrawn]
    if named:
        lines += ["", "Withdrawn pairs:", ""]
        lines += [f"- `{entry.pair_id}`: {entry.reason}" for entry in named]
    return "\n".join([*lines, ""])


def _added_by_attack(
    changes: list[ChangedPair], hard: Mapping[str, HardNegativeOrigin]
) -> list[str]:
    added = [pair.pair_id for pair in changes if pair.change == "added"]
    found = Counter(hard[identity].attack for identity in added if identity in hard)
    if not found:
        return []
    counted = [f"- {attack}: {number}" for attack, number in found.most_common()]
    return ["", f"Hard negatives among the added pairs: {found.total()}, by attack:", "", *counted]


def _check_files(folder: Place) -> None:
    """Check that all data files exist with their size; a missing one looks like removed pairs."""
    for file in read_manifest(folder)["files"]:
        if file["name"].endswith(".parquet") and size(folder / file["name"]) != file["bytes"]:
            raise _damaged(folder / file["name"], "its size is not the manifest's")


def _damaged(file: Place, why: object) -> IntegrityError:
    return IntegrityError(
        f"{file} is missing or damaged ({' '.join(str(why).split())}); `alignguard release verify` "
        "names every damaged file"
    )


def _rows(folder: Place, parts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """All columns of each pair except its images, by pair id."""
    return {
        row["pair_id"]: {
            **{name: _equal_to_itself(value) for name, value in row.items()},
            "part": part,
        }
        for part in parts
        for row in _table(folder, part).to_pylist()
    }


def _table(folder: Place, part: str) -> pa.Table:
    if part not in SPLITS:
        try:
            return open_parquet(folder / EVALUATION).read()
        except (pa.ArrowException, OSError) as error:
            raise _damaged(folder / EVALUATION, error) from error
    shards = list_folder(folder / "data", f"{part}-*.parquet")
    try:
        names = open_parquet(shards[0]).schema_arrow.names if shards else []
    except (pa.ArrowException, OSError) as error:
        raise _damaged(shards[0], error) from error
    return rows_of(folder, part, [name for name in names if name not in _IMAGES])


def _equal_to_itself(value: Any) -> Any:
    return None if value != value else value  # NaN: no score
