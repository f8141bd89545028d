"""Hard negatives: adversarial prompts that broke an adapter, kept for the next dataset.

``hard_negatives/<concept>.jsonl`` is an append-only ledger next to the rooms, one prompt a line.
Room ``prompts`` adds a concept's lines to its pairs, each with the safe twin of the pair that was
attacked, after the same gate as a writer's replies. Text states of an attack are no prompt, so they
cannot enter here.
"""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

from alignguard_data.contracts.errors import ConfigError, IntegrityError
from alignguard_data.contracts.records import pair_id
from alignguard_data.contracts.text import canonical
from alignguard_data.contracts.vocabulary import ATTACK_WRITER
from alignguard_data.safety.rules import refusal
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import digests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, list_folder, map_concurrently, prepare, read_bytes
from alignguard_data.storage.row_files import decoded, lines_of
from alignguard_data.storage.writes import append, remove_file

FOLDER = "hard_negatives"
"""Folder of the ledgers, next to the rooms."""
PENDING = "adding@"
"""Start of the name of a file whose lines are on their way to the ledgers; in no concept's key."""
ONE_FILE = "hard_negatives.jsonl"
"""An older version's ledger of all concepts: read, never written."""
_KEY = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")
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


def ledger(data: DataRoot, concept: str) -> Place:
    """The file of one concept's hard negatives."""
    return data.base / FOLDER / f"{concept}.jsonl"


def read_hard_negatives(data: DataRoot) -> list[HardNegative]:
    """Read the ledgers of all concepts; of equal prompts of one concept the first counts.

    Args:
        data: the data folder.

    Returns:
        Hard negatives by concept, each concept's in the order in which they were found.

    Raises:
        IntegrityError: a line is not a hard negative; its number is named.
    """
    names = [place.name for place in list_folder(data.base / FOLDER, "*.jsonl")]
    own = {name.removesuffix(".jsonl") for name in names if not name.startswith(PENDING)}
    concepts = sorted(own | _of_one_file(data).keys())
    read = map_concurrently(data.root, partial(of_concept, data), concepts)
    return [entry for entries in read for entry in entries]


def of_concept(data: DataRoot, concept: str) -> list[HardNegative]:
    """The hard negatives of one concept, in the order in which they were found.

    Args:
        data: the data folder.
        concept: its key.

    Returns:
        Of equal prompts the first.

    Raises:
        IntegrityError: a line is not a hard negative of the concept; its number is named.
    """
    path = ledger(data, concept)
    own = _read(path)
    if any(entry.concept != concept for entry in own):
        raise IntegrityError(f"{path} has a line of another concept")
    found: dict[tuple[str, str], HardNegative] = {}
    for entry in (*_of_one_file(data).get(concept, ()), *own):
        found.setdefault(_identity(entry), entry)
    return list(found.values())


@lru_cache(maxsize=8)
def _of_one_file(data: DataRoot) -> dict[str, list[HardNegative]]:
    """Hard negatives of an older version's one file, which nothing writes any more, by concept."""
    found: dict[str, list[HardNegative]] = {}
    for entry in _read(data.base / ONE_FILE):
        found.setdefault(entry.concept, []).append(entry)
    return found


def _read(path: Place) -> list[HardNegative]:
    try:
        text = decoded(read_bytes(path))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise IntegrityError(f"{path} {error}") from error
    lines = enumerate(lines_of(text), start=1)
    return [_entry(line, f"{path} line {number}") for number, line in lines if line.strip()]


def ledger_input(entries: Iterable[HardNegative]) -> dict[str, str]:
    """The part of a fingerprint that says which hard negatives are read; empty without any."""
    found = digests((INPUT, dataclasses.astuple(entry)) for entry in entries)
    return {INPUT: found[INPUT]} if found else {}


def add_hard_negatives(data: DataRoot, offered: Sequence[HardNegative]) -> Added:
    """Add prompts to their concepts' ledgers, except repeated ones and any that mentions minors.

    A refused text is not stored. Adding the same prompts again adds nothing. All of a call are
    added, or none: a killed call is completed by the next one, or by :func:`complete_adding`.

    Args:
        data: the data folder.
        offered: what attacks found.

    Returns:
        The added prompts, and the number of the others by reason.

    Raises:
        ConfigError: a concept is no key of a taxonomy.
        IntegrityError: a line of a ledger is not a hard negative.
        StorageError: a ledger cannot be written.
    """
    if odd := sorted({one.concept for one in offered if not _KEY.fullmatch(one.concept)}):
        faults = [f"concept must be category, dot, slug, got {concept!r}" for concept in odd]
        raise ConfigError("hard negatives", faults)
    complete_adding(data)
    concepts = sorted({one.concept for one in offered})
    read = map_concurrently(data.root, partial(of_concept, data), concepts)
    known = {_identity(entry) for entries in read for entry in entries}
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
        lines = "".join(map(_line, new))
        prepare(data.base / FOLDER)
        digest = hashlib.blake2b(lines.encode(), digest_size=8).hexdigest()
        append(data.base / FOLDER / f"{PENDING}{digest}.jsonl", lines)
        complete_adding(data)
    return Added(new=tuple(new), refused=dict(sorted(refused.items())))


def complete_adding(data: DataRoot) -> None:
    """Move what a call of :func:`add_hard_negatives` has begun to add to its concepts' ledgers.

    Args:
        data: the data folder.

    Raises:
        IntegrityError: a line of a ledger is not a hard negative.
        StorageError: a ledger cannot be written.
    """
    for batch in list_folder(data.base / FOLDER, f"{PENDING}*.jsonl"):
        entries = _read(batch)
        for concept in sorted({entry.concept for entry in entries}):
            known = {_identity(entry) for entry in of_concept(data, concept)}
            own = [one for one in entries if one.concept == concept and _identity(one) not in known]
            if own:
                append(ledger(data, concept), "".join(map(_line, own)))
        remove_file(batch)


def _line(entry: HardNegative) -> str:
    return json.dumps(dataclasses.asdict(entry), sort_keys=True) + "\n"


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
