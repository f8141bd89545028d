"""Makes one partition of a room: spec, lock, resumable batches, and the manifest last.

    spec = PartitionSpec(folder=..., room="images", key=..., config=..., inputs=..., models=...)
    with open_partition(spec) as work:
        if work.done:
            return work.done
        for name in names - work.saved_names():
            work.save_batch(name, table)
        return work.finish(tables={"images": ..., "rejected": ...}, ...)

A killed process leaves its batches in ``.<fingerprint>.partial``, and the next one resumes there.
Finished files go to a generation folder named by fingerprint and content, so two concurrent writers
never share files and the last manifest wins.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Generator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from alignguard_data.contracts.errors import IntegrityError, NothingMade, PartitionBusy
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage import places as storage
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.places import Place
from alignguard_data.storage.shards import ShardFile, Tables, describe, write_shard
from alignguard_data.storage.tally import NOTHING, Tally, short_by, too_few
from alignguard_data.storage.writes import put_file, remove_file, remove_tree

RUN_ID_VARIABLE = "ALIGNGUARD_RUN_ID"
ABANDONED_SECONDS = 2 * 24 * 3600
"""Seconds after which an unreferenced generation counts as abandoned."""


State = Literal["done", "short", "empty", "stale", "missing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionSpec:
    """Spec of a partition: its config, inputs and models, which make the fingerprint.

    Equal fingerprints mean up to date.

    Attributes:
        folder: folder of the partition.
        room: name of the room.
        key: key of the partition.
        config: all settings that change the output.
        inputs: content id by the name of each input that is read.
        models: revision by model id.
        asks_again: whether the next run completes a short partition.
        least: with fewer units (see :mod:`alignguard_data.storage.tally`) the partition is not
            done.
        promises: whether the partition's files outside its folder exist too.
    """

    folder: Place
    room: str
    key: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    models: Mapping[str, str] = field(default_factory=dict)
    asks_again: bool = False
    least: int = 1
    promises: Callable[[Manifest], bool] | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides what the rows are."""
        return manifests.fingerprint({**self.config, "models": dict(self.models)}, self.inputs)

    def completed(self) -> Manifest | None:
        """The manifest if nothing is left to do: see :meth:`current` and :meth:`is_short`."""
        manifest = self.current()
        return None if manifest and self.is_short(manifest) else manifest

    def current(self) -> Manifest | None:
        """The manifest if it has this fingerprint and its files have the right sizes.

        Only sizes are checked, to keep a rerun fast; readers check hashes.

        Returns:
            The manifest, or None if it is missing or stale.
        """
        manifest = self.made()
        return manifest if manifest and self._promised(manifest) else None

    def met_by(self, manifest: Manifest) -> bool:
        """Whether the partition of ``manifest`` is up to date with this spec.

        Args:
            manifest: manifest of an existing partition.

        Returns:
            Whether its fingerprint is this spec's and it is not too small.
        """
        return self._files_match(manifest) and self._promised(manifest)

    def made(self) -> Manifest | None:
        """The manifest if its files are complete, without checking files outside its folder."""
        try:
            manifest = manifests.load(self.folder)
        except IntegrityError:
            return None
        return manifest if manifest and self._files_match(manifest) else None

    def _promised(self, manifest: Manifest) -> bool:
        return self.promises is None or self.promises(manifest)

    def _files_match(self, manifest: Manifest) -> bool:
        if manifest.fingerprint != self.fingerprint or too_few(manifest.counts, self.least):
            return False
        return all(storage.size(self.folder / file.name) == file.bytes for file in manifest.files)

    def is_short(self, manifest: Manifest) -> bool:
        """Whether a partition has fewer rows than wanted and the next run can add more.

        Args:
            manifest: manifest of an existing partition.

        Returns:
            True if running the room again can complete it.
        """
        return self.asks_again and short_by(manifest) > 0

    def made_nothing(self) -> Manifest | None:
        """The manifest of the last attempt if it had this fingerprint and made nothing."""
        try:
            attempt = manifests.load(self.folder, NOTHING)
        except IntegrityError:
            return None
        return attempt if attempt and attempt.fingerprint == self.fingerprint else None

    def state(self) -> State:
        """Compare the partition on disk with this spec.

        Returns:
            ``done``; ``short`` (usable, but fewer rows than wanted); ``empty`` (the last attempt
            made nothing); ``stale`` (made from other inputs); or ``missing`` (never completed).
        """
        try:
            manifest = manifests.load(self.folder)
        except IntegrityError:
            return "stale"
        if manifest and self.met_by(manifest):
            return "short" if self.is_short(manifest) else "done"
        if self.made_nothing():
            return "empty"
        return "stale" if manifest else "missing"


@dataclass(kw_only=True, slots=True)
class PartitionWork:
    """A partition in progress; see the module's docstring.

    Attributes:
        spec: what the partition should be.
        done: its manifest if there is nothing left to do.
        resumed_batches: batches that a killed attempt left.
        started: when the work began, by the monotonic clock (seconds).
    """

    spec: PartitionSpec
    done: Manifest | None
    resumed_batches: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Place:
        """The partition's folder."""
        return self.spec.folder

    @property
    def partial(self) -> Path:
        """Local folder for unfinished work, where callers may keep files to resume from."""
        return storage.scratch(self.folder) / f".{self.spec.fingerprint}.partial"

    def saved_names(self) -> list[str]:
        """Names of the batches that a killed attempt finished, sorted."""
        names = sorted(path.stem for path in self.partial.glob("*.parquet"))
        self.resumed_batches = max(self.resumed_batches, len(names))
        return names

    def save_batch(self, name: str, table: pa.Table) -> None:
        """Save a finished batch atomically.

        Args:
            name: name of the batch, unique in the partition.
            table: its rows.
        """
        write_shard(self.partial / f"{name}.parquet", table)

    def load_batch(self, name: str, *, columns: list[str] | None = None) -> pa.Table:
        """Read a saved batch, or some of its columns.

        Args:
            name: one of :meth:`saved_names`.
            columns: columns to read; all by default.

        Returns:
            The batch's rows.
        """
        with pq.ParquetFile(self.partial / f"{name}.parquet") as shard:
            return shard.read(columns=columns)

    def finish(
        self,
        *,
        tables: Mapping[str, Tables],
        rejected: Mapping[str, int] | None = None,
        counts: Mapping[str, Any] | None = None,
        extra_files: Mapping[str, Path] | None = None,
        tally: Tally | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Write the shards, then the manifest, then delete what they replace.

        If nothing was made, the tables are kept next to the partition, which is not done.

        Args:
            tables: rows by name of the shard, as one table or, if too large for memory, an iterator
                of tables. The first one's rows are the partition's rows.
            rejected: number of dropped rows by reason slug.
            counts: further numbers for the manifest.
            extra_files: local files by their name in the partition (adapter weights, plots,
                reports); they are moved.
            tally: units made and wanted; by default all wanted rows were made.
            digests: digests of parts of the rows, for rooms that read only those (see
                :func:`alignguard_data.storage.basis.reads`).

        Returns:
            The manifest that was written.

        Raises:
            NothingMade: nothing was made; the next attempt starts over.
        """
        files, content_id = self._put(tables, extra_files or {})
        tally_counts = tally.counts() if tally else {}
        done = Manifest(
            room=self.spec.room,
            partition=self.spec.key,
            fingerprint=self.spec.fingerprint,
            content_id=content_id,
            inputs=dict(self.spec.inputs),
            config=dict(self.spec.config),
            models=dict(self.spec.models),
            rows=files[0].rows if tables else 0,
            rejected=dict(sorted((rejected or {}).items())),
            files=files,
            counts={**(counts or {}), **tally_counts},
            versions=manifests.library_versions(),
            run_id=os.environ.get(RUN_ID_VARIABLE, ""),
            seconds=round(time.monotonic() - self.started, 3),
            digests=dict(digests or {}),
        )
        replaced = self._referenced()
        if tally and too_few(tally_counts, self.spec.least):
            self._keep_attempt(done, tally, replaced)
        done.save(self.folder)
        remove_file(self.folder / NOTHING)
        self.done = done
        self._drop_old(replaced)
        return done

    def raise_if_nothing(self, tally: Tally, rejected: Mapping[str, int]) -> None:
        """Raise if nothing can be made, before anything is written.

        Args:
            tally: units made and wanted.
            rejected: number of dropped rows by reason slug.

        Raises:
            NothingMade: the tally has nothing made.
        """
        if too_few(tally.counts(), self.spec.least):
            raise NothingMade([f"{self.spec.room} {self.spec.key}: {tally.summary(rejected)}"])

    def _keep_attempt(self, made: Manifest, tally: Tally, replaced: Set[str]) -> NoReturn:
        counts = {**made.counts, "example": tally.example}
        attempt = dataclasses.replace(made, counts=counts)
        attempt.save(self.folder, NOTHING)
        self._drop_old(replaced)
        raise NothingMade([f"{self.spec.room} {self.spec.key}: {tally.summary(made.rejected)}"])

    def _put(
        self, tables: Mapping[str, Tables], extra_files: Mapping[str, Path]
    ) -> tuple[tuple[ShardFile, ...], str]:
        """Move files to the generation named by their content; returns the files and that id."""
        sources = {f"{stem}.parquet": self.partial / "whole" / f"{stem}.parquet" for stem in tables}
        files = [write_shard(sources[f"{stem}.parquet"], table) for stem, table in tables.items()]
        for name, path in extra_files.items():
            sources[name] = path
            files.append(dataclasses.replace(describe(path, rows=0), name=name))
        content_id = manifests.content_id(tuple(files))
        generation = f"{self.spec.fingerprint}-{content_id[:8]}"
        for file in files:
            put_file(sources[file.name], self.folder / generation / file.name)
        named = (dataclasses.replace(file, name=f"{generation}/{file.name}") for file in files)
        return tuple(named), content_id

    def _referenced(self) -> set[str]:
        """Generations referenced by the manifest or by an attempt that made nothing."""
        named: set[str] = set()
        for name in (manifests.MANIFEST, NOTHING):
            with suppress(IntegrityError):
                manifest = manifests.load(self.folder, name)
                files = manifest.files if manifest else ()
                named |= {file.name.partition("/")[0] for file in files}
        return named

    def _drop_old(self, replaced: Set[str]) -> None:
        """Delete what the new manifest replaces.

        Other generations may belong to a writer on another machine that has no manifest yet, so
        they are deleted only when old.
        """
        for partial in storage.list_folder(storage.scratch(self.folder), ".*.partial"):
            remove_tree(partial)
        referenced = self._referenced()
        for path in storage.list_folder(self.folder, f"{'[0-9a-f]' * 16}*"):
            abandoned = time.time() - storage.newest(path) > ABANDONED_SECONDS
            if path.name not in referenced and (path.name in replaced or abandoned):
                remove_tree(path)
                remove_tree(storage.scratch(path))


@contextmanager
def open_partition(spec: PartitionSpec) -> Generator[PartitionWork]:
    """Lock a partition (see :func:`storage.lock`) and check whether it is done.

    Args:
        spec: what the partition should be.

    Yields:
        The work; its ``done`` is the manifest if there is nothing to do.

    Raises:
        PartitionBusy: another live process is making this partition.
        StorageError: the folder cannot be written.
    """
    handle = storage.lock(spec.folder)
    if handle is None:
        message = f"another process is making {spec.room} {spec.key} ({spec.folder})"
        raise PartitionBusy(message)
    try:
        yield PartitionWork(spec=spec, done=spec.completed())
    finally:
        os.close(handle)
