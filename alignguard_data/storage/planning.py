"""Why a partition would be made, and its estimated cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec

NEVER_MADE = "never made"
SHORT = "fewer than were asked for: asked again"
MADE_NOTHING = "the last run made nothing of it"
DAMAGED = "its files or manifest are damaged"


def why(spec: PartitionSpec) -> list[str]:
    """Explain why a partition is to be made.

    Args:
        spec: what the partition should be.

    Returns:
        Differences from the existing partition as old -> new; empty if it is up to date.
    """
    try:
        before = manifests.load(spec.folder)
    except IntegrityError:
        return [DAMAGED]
    if before and spec.met_by(before):
        return [SHORT] if spec.is_short(before) else []
    if spec.made_nothing():
        return [MADE_NOTHING]
    if before is None:
        return [NEVER_MADE]
    now, then = _flat(spec.config), _flat(before.config)
    found = [f"{name}: {then.get(name)!r} -> {now.get(name)!r}" for name in _differing(then, now)]
    found += [f"input {name} changed" for name in _differing(before.inputs, spec.inputs)]
    found += [
        f"model {name}: {before.models.get(name)} -> {spec.models.get(name)}"
        for name in _differing(before.models, spec.models)
    ]
    return found or [DAMAGED]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Seconds and bytes of some partitions, and the basis of the estimate."""

    seconds: float | None
    bytes: int | None
    basis: str


def estimate(partitions: int, made: Sequence[Manifest]) -> Cost:
    """Estimate time and size of partitions from the medians of the existing ones.

    Args:
        partitions: number of partitions to make.
        made: manifests of the same room.

    Returns:
        Seconds and bytes, None where nothing is known.
    """
    if not made:
        return Cost(seconds=None, bytes=None, basis="unknown: none was made before")
    sizes = [sum(file.bytes for file in manifest.files) for manifest in made]
    return Cost(
        seconds=partitions * median(manifest.seconds for manifest in made),
        bytes=round(partitions * median(sizes)),
        basis=f"median of {len(made)} made before",
    )


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return sorted(
        name for name in then.keys() | now.keys() if _plain(then.get(name)) != _plain(now.get(name))
    )


def _plain(value: Any) -> Any:
    # JSON turns tuples into lists.
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _flat(config: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{place}{name}.")
        else:
            found[f"{place}{name}"] = value
    return found
