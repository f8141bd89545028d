"""Hard negatives among a release's train rows, as its manifest lists them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.contracts.records import Concept
from alignguard_data.prompts.hard_negatives import HardNegativeOrigin, read_origins
from alignguard_data.storage.manifest import MANIFEST
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, read_bytes

FIELD = "hard_negatives"
"""Field of a release's manifest; missing where it has none."""


def hard_rows(folder: Place) -> dict[str, HardNegativeOrigin]:
    """Read a release's hard negatives.

    Args:
        folder: folder of the release.

    Returns:
        Origin by pair id, sorted; empty for a release without any, or without a manifest.

    Raises:
        IntegrityError: the manifest is not JSON. Its seal is not checked.
    """
    path = folder / MANIFEST
    try:
        return rows_in(json.loads(read_bytes(path)))
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path} is not a release manifest: {error!r}") from error


def rows_in(manifest: Mapping[str, Any]) -> dict[str, HardNegativeOrigin]:
    """The hard negatives that a release's manifest lists, by pair id."""
    return {row["pair_id"]: HardNegativeOrigin(**row) for row in manifest.get(FIELD, [])}


def hard_field(
    data: DataRoot, concepts: Iterable[Concept], released: Mapping[str, Iterable[str]]
) -> dict[str, list[dict[str, Any]]]:
    """The field of a release's manifest; ``released`` are the pair ids by concept key."""
    rows = [
        asdict(row)
        for concept in concepts
        for row in read_origins(data, concept.key)
        if row.pair_id in set(released[concept.key])
    ]
    return {FIELD: sorted(rows, key=lambda row: row["pair_id"])} if rows else {}


def by_attack(rows: Iterable[HardNegativeOrigin]) -> dict[str, int]:
    """Number of hard negatives by attack, most first, as counts of a manifest."""
    found = Counter(row.attack for row in rows)
    return {f"hard negatives of {attack}": number for attack, number in found.most_common()}
