"""The texts that guards learn from: a release's pairs and files of benign captions. No images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from alignguard_data.contracts.errors import ConfigError, IntegrityError
from alignguard_data.release.reader import EVALUATION
from alignguard_data.safety.rules import refusal
from alignguard_data.storage.parquet_files import dataset
from alignguard_data.storage.places import Place, list_folder
from alignguard_data.storage.row_files import Columns, read_rows
from alignguard_train.guards.config import BenignSet
from alignguard_train.guards.splits import TextPair

COLUMNS = ("pair_id", "concept", "caption", "caption_safe")
"""Of a release's shards: texts and ids, never images, which the evaluation's judge may know."""
EVALUATION_COLUMNS = ("pair_id", "concept", "unsafe_prompt", "safe_prompt", "seen")
_BENIGN = Columns(spellings={"prompt": ("prompt", "caption")}, required=("prompt",))


@dataclass(frozen=True, kw_only=True, slots=True)
class Benign:
    """Captions of all benign files.

    Attributes:
        plain: captions without a concept.
        harmless: captions that use a concept's words harmlessly.
        refused: how many the safety rules refused.
    """

    plain: tuple[str, ...]
    harmless: tuple[str, ...]
    refused: int


def release_pairs(release: Place, split: str) -> list[TextPair]:
    """The pairs of one split of a release, by pair id; none if it has no such split.

    Args:
        release: folder of the release.
        split: train or test.

    Returns:
        Pairs sorted by pair id; none if the release has no such split.

    Raises:
        IntegrityError: a column is missing.
    """
    shards = list_folder(release / "data", f"{split}-*.parquet")
    if not shards:
        return []
    rows = _rows(shards, COLUMNS)
    return [
        TextPair(
            pair_id=row["pair_id"],
            concept=row["concept"],
            unsafe=row["caption"],
            safe=row["caption_safe"],
        )
        for row in rows
    ]


def reserved_pairs(release: Place) -> tuple[list[TextPair], list[TextPair]]:
    """Read the pairs that the release reserves for measuring.

    Args:
        release: folder of the release.

    Returns:
        Pairs of seen concepts, and pairs of held-out ones, each sorted by pair id.

    Raises:
        IntegrityError: the file is missing or lacks a column.
    """
    found: tuple[list[TextPair], list[TextPair]] = ([], [])
    for row in _rows([release / EVALUATION], EVALUATION_COLUMNS):
        pair = TextPair(
            pair_id=row["pair_id"],
            concept=row["concept"],
            unsafe=row["unsafe_prompt"],
            safe=row["safe_prompt"],
        )
        found[0 if row["seen"] else 1].append(pair)
    return found


def benign_captions(sets: Sequence[BenignSet]) -> Benign:
    """The captions of benign files; those that a rule refuses are left out and counted.

    Args:
        sets: files with their kinds.

    Returns:
        Captions by kind, in the order of the files.

    Raises:
        ConfigError: a file cannot be read or has no caption; lists every fault.
    """
    faults: list[str] = []
    found: dict[str, list[str]] = {"plain": [], "harmless": []}
    refused = 0
    for chosen in sets:
        read = read_rows(Path(chosen.path), _BENIGN, faults)
        texts = [" ".join(row.text("prompt").split()) for row in read.rows] if read else []
        kept = [text for text in texts if text and not refusal(text)]
        refused += sum(bool(text) for text in texts) - len(kept)
        if read and not kept:
            faults.append(f"{chosen.path}: no caption is left")
        found[chosen.kind] += kept
    if faults:
        raise ConfigError("guards.benign", faults)
    return Benign(plain=tuple(found["plain"]), harmless=tuple(found["harmless"]), refused=refused)


def _rows(shards: Sequence[Place], columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        table = dataset(shards).to_table(columns=list(columns))
    except (KeyError, OSError, pa.ArrowInvalid) as error:
        raise IntegrityError(f"{shards[0]}: {error}") from error
    return table.sort_by("pair_id").to_pylist()
