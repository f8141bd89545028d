"""Imports the published CoProV2 (columns ``prompt,image,category``) as our records.

Writes ``<root>/<profile>/imports/coprov2-<content id>/``, a regular partition: tables ``pairs``
(PromptPair), ``origins`` (PairOrigin), ``rejected`` (RejectedRow), shards ``images-*``
(ImportedImage) if there is an image folder, and ``audit.json``. Each row of the files has a record
or is in ``rejected``.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.contracts.records import PromptPair, from_table, to_table
from alignguard_data.importing.categories import CategoryNames
from alignguard_data.importing.coprov2.audit import Outcome, audit
from alignguard_data.importing.coprov2.files import CsvFile, read_files
from alignguard_data.importing.coprov2.images import hash_images, read_batch, wanted_images
from alignguard_data.importing.coprov2.pairs import Candidate, known_categories, map_rows
from alignguard_data.importing.imported import AUDIT, IMAGES, ROOM, read_audit
from alignguard_data.importing.records import ImportedImage, PairOrigin, RejectedRow
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place
from alignguard_data.storage.shards import write_bytes
from alignguard_data.storage.tally import Tally

FORMAT = 1
"""Part of the fingerprint: increment when the same files map to other records."""

TABLES = {
    "pairs": PromptPair,
    "origins": PairOrigin,
    "rejected": RejectedRow,
    IMAGES: ImportedImage,
}
"""Record class by shard."""
PAIRS_PER_SHARD = 256

Stages = Callable[[str, int], Progress]
"""Called with a stage's name and number of units; returns a callback that counts them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Input of an import: the files, the image folder, and extra category spellings."""

    files: tuple[CsvFile, ...]
    images: Path | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    categories: Mapping[str, str] = field(default_factory=dict)

    def spec(self, data: DataRoot) -> PartitionSpec:
        """Spec of the import; equal content gives the same folder."""
        inputs = {f"csv/{file.name}": file.sha256 for file in self.files}
        if self.images is not None:
            inputs["images"] = manifests.fingerprint({}, self.hashes)
        key = f"coprov2-{manifests.fingerprint({}, inputs)}"
        return PartitionSpec(
            folder=data.partition(ROOM, key),
            room=ROOM,
            key=key,
            config={
                **basis(ROOM, format=FORMAT, judges_text=True, tables=TABLES),
                "categories": dict(self.categories),
                "parts": {file.name: file.part for file in self.files},
            },
            inputs=inputs,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A finished import.

    Attributes:
        folder: where it is.
        manifest: of its partition.
        audit: content of its ``audit.json``.
        made: False if the import existed already.
    """

    folder: Place
    manifest: Manifest
    audit: dict[str, Any]
    made: bool


def import_coprov2(
    data: DataRoot,
    paths: Sequence[Path],
    *,
    images: Path | None = None,
    categories: Mapping[str, str] | None = None,
    stages: Stages | None = None,
) -> Imported:
    """Import the published CSV files, unless it is done already.

    A killed import resumes with the next batch of images.

    Args:
        data: the data folder.
        paths: the CSV files.
        images: folder of the train images; a pair then needs both image files.
        categories: more spellings of categories, with their keys.
        stages: called with a stage's name and number of units; what it returns counts them.

    Returns:
        The import's folder, manifest and audit.

    Raises:
        ConfigError: files, spellings or the image folder have faults; all faults of a kind at once.
        IntegrityError: an image changed during the import.
        PartitionBusy: another process is importing the same files.
        StorageError: the data root cannot be written.
    """
    begin = stages or (lambda name, total: lambda units: None)
    _check_paths(paths)
    files = read_files(paths)
    names = CategoryNames(categories)
    keys = known_categories(files, names)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        source = Source(files=files, images=images, categories=categories or {})
        if images is not None:
            wanted = wanted_images(files, images)
            source.hashes.update(hash_images(images, wanted, pool, begin("hashing", len(wanted))))
        data.prepare()
        with open_partition(source.spec(data)) as work:
            made = work.done is None
            manifest = work.done or _Import(work, source, pool, begin).make(keys)
    folder = work.folder
    return Imported(folder=folder, manifest=manifest, audit=read_audit(folder), made=made)


def _check_paths(paths: Sequence[Path]) -> None:
    resolved = [path.resolve() for path in paths]
    twice = sorted({str(path) for path in resolved if resolved.count(path) > 1})
    if twice or not paths:
        faults = [f"{path}: is given twice" for path in twice] or ["no file is given"]
        raise ConfigError("CoProV2 as CSV", faults)


class _Import:
    """An import in progress."""

    def __init__(
        self, work: PartitionWork, source: Source, pool: ThreadPoolExecutor, begin: Stages
    ) -> None:
        self._work = work
        self._source = source
        self._pool = pool
        self._begin = begin

    def make(self, keys: Mapping[str, tuple[str, ...]]) -> Manifest:
        """Map the rows, read the images and write the partition."""
        source = self._source
        rows = sum(len(file.rows) for file in source.files)
        there = source.hashes if source.images is not None else None
        mapped = map_rows(source.files, keys, there, self._begin("rows", rows))
        kept, rejected = mapped.candidates, mapped.rejected
        if source.images is not None:
            unusable = self._read_images(source.images, [c for c in kept if len(c.rows) == 2])
            fallen = {(row.file, row.row) for row in unusable}
            kept = [c for c in kept if not fallen & {_place(c)}]
            rejected = [*rejected, *unusable]
        return self._finish(
            Outcome(files=source.files, categories=keys, kept=kept, rejected=rejected)
        )

    def _read_images(self, folder: Path, pairs: Sequence[Candidate]) -> list[RejectedRow]:
        # Images are saved first, so saved rejected rows mean that the batch is done.
        done = set(self._work.saved_names())
        progress = self._begin("images", 2 * len(pairs))
        rejected: list[RejectedRow] = []
        for first in range(0, len(pairs), PAIRS_PER_SHARD):
            part = pairs[first : first + PAIRS_PER_SHARD]
            number = f"{first // PAIRS_PER_SHARD:05d}"
            if f"unusable-{number}" not in done:
                batch = read_batch(folder, part, self._source.hashes, self._pool)
                self._work.save_batch(f"{IMAGES}-{number}", to_table(ImportedImage, batch.images))
                self._work.save_batch(f"unusable-{number}", to_table(RejectedRow, batch.rejected))
            rejected += from_table(RejectedRow, self._work.load_batch(f"unusable-{number}"))
            progress(2 * len(part))
        return rejected

    def _finish(self, outcome: Outcome) -> Manifest:
        found = {**audit(outcome), "images": self._image_counts(outcome)}
        written = self._work.partial / AUDIT
        write_bytes(written, (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode())
        order = {file.name: n for n, file in enumerate(outcome.files)}
        rejected = sorted(outcome.rejected, key=lambda row: (order[row.file], row.row))
        rows = sum(len(file.rows) for file in outcome.files)
        return self._work.finish(
            tables={
                "pairs": to_table(PromptPair, (kept.pair for kept in outcome.kept)),
                "origins": to_table(PairOrigin, (kept.origin for kept in outcome.kept)),
                "rejected": to_table(RejectedRow, rejected),
            },
            rejected=found["reasons"],
            counts=found["rows"],
            extra_files={AUDIT: written, **self._image_shards()},
            tally=Tally(wanted=rows, made=rows, unit="rows"),  # each has a record or a reason
        )

    def _image_shards(self) -> dict[str, Path]:
        names = [n for n in self._work.saved_names() if n.startswith(f"{IMAGES}-")]
        return {f"{name}.parquet": self._work.partial / f"{name}.parquet" for name in names}

    def _image_counts(self, outcome: Outcome) -> dict[str, int] | None:
        if self._source.images is None:
            return None
        return {
            "found": len(self._source.hashes),
            "imported": 2 * sum(len(kept.rows) == 2 for kept in outcome.kept),
        }


def _place(candidate: Candidate) -> tuple[str, int]:
    row = candidate.rows["unsafe"][0]
    return row.file, row.row
