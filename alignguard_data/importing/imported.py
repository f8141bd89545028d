"""Reads finished imports: pairs, evaluation prompts, images and audit.

    for folder in list_imports(data):
        prompts = read_pairs(folder, role="evaluation", leaked=False)

An evaluation prompt of an import has no safe twin: its ``safe_prompt`` is empty.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from alignguard_data.contracts.records import PromptPair, Role, from_table
from alignguard_data.importing.records import PairOrigin
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, list_folder, read_bytes, size
from alignguard_data.storage.shards import verify_file

ROOM = "imports"
IMAGES = "images"
AUDIT = "audit.json"


def list_imports(data: DataRoot) -> list[Place]:
    """List all finished imports.

    Args:
        data: the data folder.

    Returns:
        Their folders, by name.
    """
    folders = list_folder(data.base / ROOM)
    return [folder for folder in folders if size(folder / manifests.MANIFEST)]


def read_pairs(
    folder: Place, role: Role | None = None, *, category: str | None = None, leaked: bool = True
) -> list[PromptPair]:
    """Read the imported pairs in published order.

    Args:
        folder: folder of the import.
        role: of the pairs; both by default.
        category: only pairs with that category, in any position.
        leaked: keep test prompts that also occur in train, in any case.

    Returns:
        The pairs.

    Raises:
        InputMissing: the import is not finished.
        IntegrityError: a file differs from its manifest.
    """
    origins = {origin.pair_id: origin for origin in read_origins(folder)}
    return [
        pair
        for pair in from_table(PromptPair, manifests.read(folder, "pairs"))
        if role in (None, pair.role)
        and (category is None or category in origins[pair.pair_id].categories)
        and (leaked or not origins[pair.pair_id].leak)
    ]


def read_origins(folder: Place) -> list[PairOrigin]:
    """Read source and all categories of each pair.

    Args:
        folder: folder of the import.

    Returns:
        One row per pair.
    """
    return [
        # Arrow returns lists.
        replace(origin, categories=tuple(origin.categories), rows=tuple(origin.rows))
        for origin in from_table(PairOrigin, manifests.read(folder, "origins"))
    ]


def read_images(folder: Place) -> Iterator[pa.Table]:
    """Read the imported images, one verified shard at a time.

    Args:
        folder: folder of the import.

    Yields:
        Tables of ImportedImage; none if no images were imported.
    """
    for file in manifests.require(folder).files:
        stem = Path(file.name).stem
        if stem.startswith(f"{IMAGES}-"):
            yield manifests.read(folder, stem)


def read_audit(folder: Place) -> dict[str, Any]:
    """Read the audit of an import.

    Args:
        folder: folder of the import.

    Returns:
        Its content.
    """
    file = manifests.require(folder).file(AUDIT)
    verify_file(folder, file)
    return json.loads(read_bytes(folder / file.name))
