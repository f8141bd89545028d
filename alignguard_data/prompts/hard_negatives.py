"""Hard negatives: adversarial prompts that broke an adapter, kept for the next dataset.

``hard_negatives.jsonl`` is an append-only ledger next to the rooms, one prompt a line. Room
``prompts`` adds a concept's lines to its pairs, each with the safe twin of the pair that was
attacked, after the same gate as a writer's replies. Text states of an attack are no prompt, so they
cannot enter here.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.contracts.records import pair_id
from alignguard_data.contracts.text import canonical
from alignguard_data.contracts.vocabulary import ATTACK_WRITER
from alignguard_data.safety.rules import refusal
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import digests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, read_bytes
from alignguard_data.storage.row_files import decoded, lines_of
from alignguard_data.storage.writes import append

LEDGER = "hard_negatives.jsonl"
TABLE = "hard_negatives"
"""Shard of room ``prompts`` with the origin of its hard negatives; of a concept that has some."""
INPUT = "hard negatives"
"""Name of the input in the fingerprint of room ``prompts``."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HardNegative:
    """An adversarial prompt, its safe twin, and where both come from."""

    concept: str
    """Key of the concept: category, dot, slug."""
    unsafe_prompt: str
    """The adversarial prompt."""
    safe_prompt: str
    """Safe prompt of the attacked pair."""
    source_pair_id: str
    """Id of the attacked pair, which is of the train split."""
    attack: str
    """Name of the attack in the profile."""
    target: str
    """The adapter that drew the concept by it."""
    budget: str
    """What the search used, as JSON: rows by counter."""
    round: int
    """Round of hardening, from 1."""

    @property
    def pair_id(self) -> str:
        """Id of the pair that it becomes."""
        return pair_id(self.concept, self.unsafe_prompt, self.safe_prompt)

    @property
    def writer(self) -> str:
        """Its name among the writers."""
        return ATTACK_WRITER + self.attack


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HardNegativeOrigin:
    """The origin of one hard negative among a concept's pairs."""

    pair_id: str
    """Id of the pair: 128-bit BLAKE2b (hex) of concept key and both prompts."""
    source_pair_id: str
    """Id of the attacked pair, which is of the train split."""
    attack: str
    """Name of the attack in the profile."""
    target: str
    """The adapter that drew the concept by it."""
    budget: str
    """What the search used, as JSON: rows by counter."""
    round: int
    """Round of hardening, from 1."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Added:
    """The outcome for adversarial prompts that were offered to the ledger.

    Attributes:
        new: the prompts that were added.
        refused: number of the others by reason: ``minors`` or ``duplicate``.
    """

    new: tuple[HardNegative, ...]
    refused: dict[str, int]


def ledger(data: DataRoot) -> Place:
    """The file of all hard negatives."""
    return data.base / LEDGER


def read_hard_negatives(data: DataRoot) -> list[HardNegative]:
    """Read the ledger; of equal prompts of one concept the first counts.

    Args:
        data: the data folder.

    Returns:
        Hard negatives in the order in which they were found.

    Raises:
        IntegrityError: a line is not a hard negative; its number is named.
    """
    path = ledger(data)
    try:
        text = decoded(read_bytes(path))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise IntegrityError(f"{path} {error}") from error
    found: dict[tuple[str, str], HardNegative] = {}
    for number, line in enumerate(lines_of(text), start=1):
        if line.strip():
            entry = _entry(line, f"{path} line {number}")
            found.setdefault(_identity(entry), entry)
    return list(found.values())


def of_concept(data: DataRoot, concept: str) -> list[HardNegative]:
    """The hard negatives of one concept, in the order in which they were found."""
    return [entry for entry in read_hard_negatives(data) if entry.concept == concept]


def ledger_input(entries: Iterable[HardNegative]) -> dict[str, str]:
    """The part of a fingerprint that says which hard negatives are read; empty without any."""
    found = digests((INPUT, dataclasses.astuple(entry)) for entry in entries)
    return {INPUT: found[INPUT]} if found else {}


def add_hard_negatives(data: DataRoot, offered: Sequence[HardNegative]) -> Added:
    """Append prompts to the ledger, except repeated ones and any that mentions minors.

    A refused text is not stored. Adding the same prompts again adds nothing.

    Args:
        data: the data folder.
        offered: what attacks found.

    Returns:
        The added prompts, and the number of the others by reason.

    Raises:
        IntegrityError: a line of the ledger is not a hard negative.
        StorageError: the ledger cannot be written.
    """
    known = {_identity(entry) for entry in read_hard_negatives(data)}
    new: list[HardNegative] = []
    refused: Counter[str] = Counter()
    for entry in offered:
        if refusal(entry.unsafe_prompt) or refusal(entry.safe_prompt):
            refused["minors"] += 1
        elif _identity(entry) in known:
            refused["duplicate"] += 1
        else:
            known.add(_identity(entry))
            new.append(entry)
    if new:
        lines = [json.dumps(dataclasses.asdict(one), sort_keys=True) + "\n" for one in new]
        append(ledger(data), "".join(lines))
    return Added(new=tuple(new), refused=dict(sorted(refused.items())))


def origin_of(entry: HardNegative) -> HardNegativeOrigin:
    """The row that is kept with the pair."""
    fields = {
        field.name: getattr(entry, field.name) for field in dataclasses.fields(HardNegativeOrigin)
    }
    return HardNegativeOrigin(**fields)


def read_origins(data: DataRoot, concept: str) -> list[HardNegativeOrigin]:
    """Read where a concept's hard negatives come from.

    Args:
        data: the data root.
        concept: its key.

    Returns:
        Origins by pair id; none if the concept has no hard negatives.

    Raises:
        InputMissing: the concept's prompts are not complete.
        IntegrityError: a file differs from its manifest.
    """
    folder = data.partition("prompts", concept)
    if not manifests.require(folder).counts.get(TABLE):
        return []
    rows = manifests.read(folder, TABLE).to_pylist()
    return [HardNegativeOrigin(**row) for row in rows]


def _identity(entry: HardNegative) -> tuple[str, str]:
    return entry.concept, canonical(entry.unsafe_prompt)


def _entry(line: str, place: str) -> HardNegative:
    try:
        fields: dict[str, Any] = json.loads(line)
        entry = HardNegative(**fields)
        texts = {k: v for k, v in dataclasses.asdict(entry).items() if k != "round"}
        if not all(isinstance(value, str) and value for value in texts.values()):
            raise ValueError("every field but round must be a text")
        if not (isinstance(entry.round, int) and entry.round >= 1):
            raise ValueError(f"round must be 1 or more, got {entry.round!r}")
    except (ValueError, TypeError, RecursionError) as error:
        # The error may quote the line, which is an unsafe prompt.
        kind = type(error).__name__
        raise IntegrityError(f"{place} is not a hard negative ({kind})") from error
    return entry
