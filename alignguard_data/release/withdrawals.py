"""Withdrawn pairs, in an append-only ledger next to the rooms.

A published release is immutable, so a withdrawn pair stays in it. The next release leaves it out
and lists it in its change log. Each line of ``withdrawals.jsonl`` is one pair.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from alignguard_data.contracts.errors import ConfigError, InputMissing, IntegrityError
from alignguard_data.release.checks import rows_of
from alignguard_data.release.folders import latest_release
from alignguard_data.release.reader import EVALUATION
from alignguard_data.storage.parquet_files import open_parquet
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, read_bytes
from alignguard_data.storage.row_files import decoded, lines_of
from alignguard_data.storage.writes import append

REASON = "withdrawn"


@dataclass(frozen=True, kw_only=True, slots=True)
class Withdrawal:
    """A withdrawn pair.

    Attributes:
        pair_id: id of the pair.
        reason: why it was withdrawn.
        at: when, as ISO 8601.
        release: folder name of the newest release that contains it.
    """

    pair_id: str
    reason: str
    at: str
    release: str


def ledger(data: DataRoot) -> Place:
    """The file of all withdrawals."""
    return data.base / "withdrawals.jsonl"


def read_withdrawals(data: DataRoot) -> dict[str, Withdrawal]:
    """Read the ledger; the first entry counts if a pair is listed twice.

    Args:
        data: the data folder.

    Returns:
        Withdrawal by pair id.

    Raises:
        IntegrityError: a line is not a withdrawal; its number is named.
    """
    path = ledger(data)
    try:
        text = decoded(read_bytes(path))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise IntegrityError(f"{path} {error}") from error
    found: dict[str, Withdrawal] = {}
    for number, line in enumerate(lines_of(text), start=1):
        if line.strip():
            entry = _entry(line, f"{path} line {number}")
            found.setdefault(entry.pair_id, entry)
    return found


def _entry(line: str, place: str) -> Withdrawal:
    try:
        fields = json.loads(line, object_pairs_hook=_each_key_once)
        entry = Withdrawal(**fields)
        if not all(isinstance(value, str) and value for value in asdict(entry).values()):
            raise ValueError("every field must be a text")
    except (ValueError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{place} is not a withdrawal: {error}") from error
    return entry


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def withdraw(data: DataRoot, pair_ids: Sequence[str], reason: str) -> list[Withdrawal]:
    """Add pairs of the newest release to the ledger, except those already in it.

    Args:
        data: the data folder.
        pair_ids: ids of the pairs.
        reason: why, for the change log.

    Returns:
        The new entries.

    Raises:
        ConfigError: the reason is missing, or ids are not in the newest release; all are named.
        InputMissing: there is no release.
        StorageError: the ledger cannot be written.
    """
    folder = latest_release(data)
    if folder is None:
        raise InputMissing(f"there is no release in {data.releases} to withdraw a pair from")
    known, already = _ids(folder), read_withdrawals(data)
    faults = [] if reason.strip() else ["--reason: say why, it goes into the change log"]
    faults += [
        f"{identity}: no such pair in {folder.name}"
        for identity in pair_ids
        if identity not in known and identity not in already
    ]
    if faults:
        raise ConfigError("withdraw", faults)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entries = [
        Withdrawal(pair_id=identity, reason=reason.strip(), at=now, release=folder.name)
        for identity in dict.fromkeys(pair_ids)
        if identity not in already
    ]
    lines = [json.dumps(asdict(entry), sort_keys=True) + "\n" for entry in entries]
    append(ledger(data), "".join(lines))
    return entries


def _ids(folder: Place) -> set[str]:
    splits = [rows_of(folder, split, ("pair_id",)) for split in ("train", "test")]
    evaluation = open_parquet(folder / EVALUATION).read(columns=["pair_id"])
    return {
        identity for table in (*splits, evaluation) for identity in table["pair_id"].to_pylist()
    }
