"""What changed between two releases, by pair, as CHANGELOG.md."""

from collections import Counter
from pathlib import Path

from alignguard_data.release_audit import rows_of

_COLUMNS = ("pair_id", "concept", "category", "sha256_0", "sha256_1")

_Rows = dict[str, tuple[str, str, str]]


def change_log(folder: Path, version: str, parent: Path | None) -> str:
    """Pairs added, removed and redrawn against the parent, by split and concept."""
    lines = [f"# {version}", ""]
    if parent is None:
        return "\n".join([*lines, "The first release.", ""])
    lines += [f"Against {parent.name}:", ""]
    for split in ("train", "test"):
        new, old = _rows(folder, split), _rows(parent, split)
        added, removed = new.keys() - old.keys(), old.keys() - new.keys()
        redrawn = {pair for pair in new.keys() & old.keys() if new[pair] != old[pair]}
        lines.append(
            f"- {split}: {len(added)} pairs added, {len(removed)} removed, {len(redrawn)} redrawn"
        )
        for what, pairs, rows in (
            ("added", added, new),
            ("removed", removed, old),
            ("redrawn", redrawn, new),
        ):
            counts = Counter(rows[pair][0] for pair in pairs)
            lines += [f"  - {what} {concept}: {n}" for concept, n in sorted(counts.items())]
    return "\n".join([*lines, ""])


def _rows(folder: Path, split: str) -> _Rows:
    return {
        row["pair_id"]: (row["concept"], row["sha256_0"], row["sha256_1"])
        for row in rows_of(folder, split, _COLUMNS).to_pylist()
    }
