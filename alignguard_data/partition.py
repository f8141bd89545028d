"""Making one partition of one room: what it should be, a lock, resumable batches, manifest last.

    spec = PartitionSpec(folder=..., room="images", key=..., config=..., inputs=..., models=...)
    with open_partition(spec) as work:
        if work.done:
            return work.done
        for name in names - work.saved_names():
            work.save_batch(name, table)
        return work.finish(tables={"images": ..., "rejected": ...}, ...)

A killed process leaves its batches in ``.<fingerprint>.partial``; the next one goes on there.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from alignguard_data import manifest as manifests
from alignguard_data.errors import IntegrityError, PartitionBusy, StorageError
from alignguard_data.manifest import Manifest
from alignguard_data.shards import ShardFile, describe, write_shard

RUN_ID_VARIABLE = "ALIGNGUARD_RUN_ID"


State = Literal["done", "stale", "missing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionSpec:
    """What a partition should be made of.

    ``config`` is everything that changes the output; ``inputs`` maps a name to the content id
    of what is read; ``models`` maps a model id to its revision. Together they make the
    fingerprint, so equal fingerprints mean that nothing needs to be redone.
    """

    folder: Path
    room: str
    key: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    models: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return manifests.fingerprint({**self.config, "models": dict(self.models)}, self.inputs)

    def completed(self) -> Manifest | None:
        """The manifest if it has this fingerprint and all its files have the right sizes.

        Sizes alone are checked, to keep a rerun quick; readers check every hash.
        """
        try:
            manifest = manifests.load(self.folder)
        except IntegrityError:
            return None
        if manifest is None or manifest.fingerprint != self.fingerprint:
            return None
        for file in manifest.files:
            path = self.folder / file.name
            if not path.is_file() or path.stat().st_size != file.bytes:
                return None
        return manifest

    def state(self) -> State:
        """``done``; ``stale``: made from something else; ``missing``: never completed."""
        if self.completed():
            return "done"
        return "stale" if (self.folder / manifests.MANIFEST).exists() else "missing"


@dataclass(kw_only=True, slots=True)
class PartitionWork:
    """One partition while it is being made; see the module's docstring."""

    spec: PartitionSpec
    done: Manifest | None
    resumed_batches: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        return self.spec.folder

    @property
    def partial(self) -> Path:
        """Where unfinished work is kept; any file may be put here to resume from."""
        return self.folder / f".{self.spec.fingerprint}.partial"

    @property
    def generation(self) -> Path:
        return self.folder / self.spec.fingerprint

    def saved_names(self) -> list[str]:
        """Names of the batches that an earlier, killed attempt already finished, sorted."""
        names = sorted(path.stem for path in self.partial.glob("*.parquet"))
        self.resumed_batches = max(self.resumed_batches, len(names))
        return names

    def save_batch(self, name: str, table: pa.Table) -> None:
        """Keep one finished batch; atomic, so a batch is whole or absent."""
        write_shard(self.partial / f"{name}.parquet", table)

    def load_batch(self, name: str) -> pa.Table:
        """Read one saved batch back."""
        with pq.ParquetFile(self.partial / f"{name}.parquet") as shard:
            return shard.read()

    def finish(
        self,
        *,
        tables: Mapping[str, pa.Table],
        rejected: Mapping[str, int] | None = None,
        counts: Mapping[str, Any] | None = None,
        extra_files: Mapping[str, Path] | None = None,
    ) -> Manifest:
        """Write the shards, then the manifest, then drop what they replace.

        ``extra_files`` are moved in under their given names (adapter weights, plots, reports).
        The first table's rows are the partition's rows.
        """
        files = [self._file(stem, table) for stem, table in tables.items()]
        for name, path in (extra_files or {}).items():
            target = self.generation / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
            files.append(describe(target, rows=0, relative_to=self.folder))
        first = next(iter(tables.values()), None)
        done = Manifest(
            room=self.spec.room,
            partition=self.spec.key,
            fingerprint=self.spec.fingerprint,
            content_id=manifests.content_id(tuple(files)),
            inputs=dict(self.spec.inputs),
            config=dict(self.spec.config),
            models=dict(self.spec.models),
            rows=0 if first is None else first.num_rows,
            rejected=dict(sorted((rejected or {}).items())),
            files=tuple(files),
            counts=dict(counts or {}),
            versions=manifests.library_versions(),
            run_id=os.environ.get(RUN_ID_VARIABLE, ""),
            seconds=round(time.monotonic() - self.started, 3),
        )
        done.save(self.folder)
        self.done = done
        self._drop_old()
        return done

    def _file(self, stem: str, table: pa.Table) -> ShardFile:
        path = self.generation / f"{stem}.parquet"
        write_shard(path, table)
        return describe(path, rows=table.num_rows, relative_to=self.folder)

    def _drop_old(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir() and path != self.generation:
                shutil.rmtree(path)


@contextmanager
def open_partition(spec: PartitionSpec) -> Iterator[PartitionWork]:
    """Lock a partition and say whether it is done already.

    The lock is the kernel's: it goes with the process, however that ends.

    Raises:
        PartitionBusy: another live process is making this partition.
        StorageError: the folder cannot be written.
    """
    folder = spec.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another process is making {spec.room} {spec.key} ({folder})"
            raise PartitionBusy(message) from error
        yield PartitionWork(spec=spec, done=spec.completed())
    finally:
        os.close(handle)
