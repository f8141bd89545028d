"""Reads what rooms measured of defences: their summaries' blocks, with what is wrong with each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alignguard_data.contracts.errors import AlignGuardError, IntegrityError, first_line
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, read_bytes
from alignguard_train.arena.cells import BLOCK, FORMAT, Cell, cells_of

SUMMARY = "summary.json"
ROOMS: Mapping[str, str] = {
    "evaluation": "alignguard run",
    "robustness": "alignguard attack",
    "hardening": "alignguard harden",
    "reemergence": "alignguard reemergence",
}
"""Rooms with a summary, in the order in which their figures are preferred, and what makes each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One room's figures.

    Attributes:
        room: the room.
        file: its summary, relative to the data root; of a guard, its manifest.
        cells: the figures.
        release: folder name of the release that they were measured on; empty: not recorded.
        stale: why the figures are not of the current state; empty: they are, as far as is known.
        fault: why the file could not be read; empty: it could. A line for a person.
    """

    room: str
    file: str
    cells: Sequence[Cell] = ()
    release: str = ""
    stale: str = ""
    fault: str = ""


def read_sources(
    data: DataRoot, states: Mapping[str, str] | None = None, rooms: Mapping[str, str] = ROOMS
) -> list[Source]:
    """Every room's figures; a room without a summary is left out.

    Args:
        data: the data root.
        states: of rooms whose partition was compared with the current settings, as ``alignguard
            status`` says them: a state other than done or short makes the figures stale.
        rooms: by name, the command that makes it.

    Returns:
        In the order of ``rooms``; a file that cannot be read is one with a fault.
    """
    found = [_read(data, room, command) for room, command in rooms.items()]
    return [
        replace(source, stale=source.stale or state_fault((states or {}).get(source.room, "done")))
        for source in found
        if source is not None
    ]


def current_release(data: DataRoot) -> str:
    """Folder name of the newest release; empty if there is none."""
    made = manifests.load(data.partition("release"))
    return str(made.counts.get("path", "")) if made else ""


def state_fault(state: str) -> str:
    """What a room's state says against its figures; empty if it is as its settings say."""
    return "" if state in ("done", "short") else f"the room is {state}: alignguard status"


def _read(data: DataRoot, room: str, command: str) -> Source | None:
    path = data.base / room / SUMMARY
    file = data.inside(path)
    try:
        summary = _loaded(path)
    except FileNotFoundError:
        return None
    except IntegrityError as error:
        return Source(room=room, file=file, fault=f"{error}; {command} writes it again")
    block = summary.get(BLOCK)
    if not isinstance(block, Mapping):
        old = f"{path} is of an older format and has no figures for the arena"
        return Source(room=room, file=file, fault=f"{old}; {command} writes it again")
    if block.get("format") != FORMAT:
        other = f"{path}: arena.format is {block.get('format')!r}, this version reads {FORMAT}"
        return Source(room=room, file=file, fault=f"{other}; {command} writes it again")
    try:
        cells = cells_of(block, str(path))
    except IntegrityError as error:
        return Source(room=room, file=file, fault=f"{error}; {command} writes it again")
    return Source(
        room=room,
        file=file,
        cells=cells,
        release=str(block.get("release") or ""),
        stale=_outdated(data, room, block),
    )


def _loaded(path: Place) -> Mapping[str, Any]:
    try:
        summary = json.loads(read_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} is damaged: not JSON ({first_line(error)})") from error
    if not isinstance(summary, Mapping):
        raise IntegrityError(f"{path} is damaged: {type(summary).__name__} instead of an object")
    return summary


def _outdated(data: DataRoot, room: str, block: Mapping[str, Any]) -> str:
    """Whether the summary is of the partition as it is, and of the newest release."""
    try:
        made = manifests.load(data.partition(room))
        newest = current_release(data)
    except AlignGuardError as error:
        return first_line(error)
    if made is None or made.content_id != block.get("made_of"):
        return "the room was made again after its summary"
    release = str(block.get("release") or "")
    if release and newest and release != newest:
        return f"measured on {release}; the newest release is {newest}"
    return ""
