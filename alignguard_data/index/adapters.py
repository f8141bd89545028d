"""Lists trained and merged adapters from the manifests of their rooms.

Training is in another package; here a room is a name, a manifest and weight files.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, list_folder
from alignguard_data.storage.shards import ShardFile

ROOMS = ("experts", "merge")
WEIGHTS = "pytorch_lora_weights.safetensors"
_EXPERT = "experts/"

ADAPTER_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("adapter", "room", "partition")),
        ("categories", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("release", "release_content_id", "base_model")),
        *((name, pa.string()) for name in ("base_revision", "file", "sha256")),
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """One weight file.

    Attributes:
        adapter: partition of an expert, or strategy of a merge.
        room: ``experts`` or ``merge``.
        partition: key of the partition.
        categories: categories of its training pairs.
        release: version that it was trained on, None if unknown.
        release_content_id: content id of the release room's partition.
        base_model: id of the base model.
        base_revision: its revision.
        file: path of the file.
        sha256: its hash (hex).
    """

    adapter: str
    room: str
    partition: str
    categories: list[str]
    release: str | None
    release_content_id: str
    base_model: str
    base_revision: str
    file: str
    sha256: str


def list_adapters(data: DataRoot) -> list[Adapter]:
    """List the adapters of finished partitions.

    Args:
        data: the data folder.

    Returns:
        Experts first, by name.

    Raises:
        IntegrityError: a manifest cannot be read.
    """
    releases = _release_names(data)
    return [
        _adapter(manifest, file, folder, releases)
        for folder, manifest in _partitions(data)
        for file in sorted(manifest.files, key=lambda file: file.name)
        if file.name.endswith(f"/{WEIGHTS}")
    ]


def _partitions(data: DataRoot) -> Iterator[tuple[Place, Manifest]]:
    for room in ROOMS:
        for folder in list_folder(data.base / room):
            if manifest := manifests.load(folder):
                yield folder, manifest


def _release_names(data: DataRoot) -> dict[str, str]:
    """Name of the release that the room points to, by the partition's content id."""
    made = manifests.load(data.partition("release"))
    return {made.content_id: str(made.counts["path"])} if made else {}


def _adapter(
    manifest: Manifest, file: ShardFile, folder: Place, releases: dict[str, str]
) -> Adapter:
    # Adapters from before row digests have the release among their inputs.
    kept = manifest.counts.get("release_content_id") or manifest.inputs.get("release")
    trained_on = str(kept or "")
    merged = [key.removeprefix(_EXPERT) for key in manifest.inputs if key.startswith(_EXPERT)]
    # The name recorded by training, since the room may point to a newer release by now.
    release = manifest.counts.get("release") or releases.get(trained_on)
    model, revision = next(iter(manifest.models.items()))
    return Adapter(
        adapter=Path(file.name).parent.name if merged else manifest.partition,
        room=manifest.room,
        partition=manifest.partition,
        categories=sorted(merged or manifest.config["categories"]),
        release="v" + release.rsplit("-v", 1)[1] if release else None,
        release_content_id=trained_on,
        base_model=model,
        base_revision=revision,
        file=str(folder / file.name),
        sha256=file.sha256,
    )
