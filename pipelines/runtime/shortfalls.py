"""Messages of `alignguard run` about empty and short partitions."""

from collections.abc import Iterable, Sequence

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.places import Place, map_concurrently
from alignguard_data.storage.tally import NOTHING, commonest, short_by, summarize
from pipelines.resources import Engines
from pipelines.rooms import Room

NAMED = 3
"""Partitions named per line; the rest are counted."""


def failures_of_empty(engines: Engines, room: Room, keys: Sequence[str]) -> dict[str, str]:
    """Failure messages of empty partitions, by room and key.

    Partitions with the same commonest reason share one message.
    """
    attempts = _read(engines, room, keys, NOTHING)
    groups: dict[str, dict[str, Manifest]] = {}
    for key, attempt in attempts.items():
        groups.setdefault(commonest(attempt.rejected).split(" (")[0], {})[key] = attempt
    found: dict[str, str] = {}
    for group in groups.values():
        first = next(iter(group))
        kept = engines.data.partition(room.name, first) / NOTHING
        text = f"{summarize(list(group.values()))}. Refused rows are kept in {kept}"
        found |= {f"{room.name} {key}": text for key in group}
    return found


def warnings_of_short(engines: Engines, rooms: Iterable[Room]) -> list[str]:
    """One line per room with short partitions."""
    lines = []
    for room in rooms:
        if room.partitioned_by != "concept":
            continue
        made = _read(engines, room, room.partitions(engines), manifests.MANIFEST)
        short = {key: manifest for key, manifest in made.items() if short_by(manifest)}
        if short:
            lines.append(_line(engines, room, short))
    return lines


def _line(engines: Engines, room: Room, short: dict[str, Manifest]) -> str:
    shown = [
        f"{key} has {m.counts['made']} of {m.counts['wanted']} {m.counts['unit']}, "
        f"commonest reason {commonest(m.rejected)}"
        for key, m in list(short.items())[:NAMED]
    ]
    more = f"; and {len(short) - NAMED} more" if len(short) > NAMED else ""
    again = any(room.spec(engines, key).is_short(m) for key, m in list(short.items())[:1])
    hint = "; the next run requests the rest" if again else ""
    return f"{room.name}: {'; '.join(shown)}{more}{hint}"


def _read(engines: Engines, room: Room, keys: Sequence[str], name: str) -> dict[str, Manifest]:
    def read(folder: Place) -> Manifest | None:
        try:
            return manifests.load(folder, name)
        except IntegrityError:
            return None

    folders = [engines.data.partition(room.name, key) for key in keys]
    found = zip(keys, map_concurrently(engines.data.root, read, folders), strict=True)
    return {key: manifest for key, manifest in found if manifest}
