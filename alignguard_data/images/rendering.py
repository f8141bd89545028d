"""One concept's partition of room ``images`` while it is made, batch by batch."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignguard_data.contracts import records
from alignguard_data.contracts.errors import IntegrityError, NothingMade
from alignguard_data.contracts.pixels import encode_png, phash_hex, reject_reason
from alignguard_data.contracts.protocols import ImageGenerator, Pixels
from alignguard_data.contracts.records import (
    SIDES,
    PromptPair,
    RejectedImage,
    RenderedImage,
    Side,
    from_table,
    to_table,
)
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.contracts.shard_records import FILES, LOOKS
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import digests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionWork
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.tally import Tally

log = logging.getLogger(__name__)

PIXELS_PER_PART = 2**25
"""Pixels per row group of the shard: 128 images of 512x512, 100 MB before PNG."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """An image to render."""

    pair_id: str
    concept: str
    side: Side
    prompt: str
    seed: int


class Rendering:
    """One concept's partition during rendering, batch by batch."""

    _shards: tuple[tuple[str, Any, str], ...] = (
        ("rejected", RejectedImage, "rejected-kept"),
        ("images", RenderedImage, "images-kept"),
    )
    """Shard, record and batch of what is taken over; the last is the sign that all is."""

    def __init__(
        self,
        work: PartitionWork,
        data: DataRoot,
        generator: ImageGenerator,
        sampling: Sampling,
    ) -> None:
        self._work = work
        self._model = {"base_model": generator.model_id, "base_revision": generator.revision}
        self._sampling = sampling
        self._wanted = [] if work.done else self._read_rows(data)
        if not work.done:
            self._keep_rendered()
        saved = [] if work.done else work.saved_names()
        self._resumed_batches = len(saved)
        self.nothing: NothingMade | None = None
        self._have = self._saved(saved)
        self.missing = [row for row in self._wanted if (row.pair_id, row.side) not in self._have]

    def _saved(self, names: Sequence[str]) -> set[tuple[str, Side]]:
        """Pair and side of every image whose outcome is saved."""
        return {key for name in names for key in _keys(self._work.load_batch(name))}

    def _read_rows(self, data: DataRoot) -> list[Row]:
        concept, model = self._work.spec.key, self._model["base_model"]
        table = manifests.read(data.partition("prompts", concept), "pairs")
        pairs = [pair for pair in from_table(PromptPair, table) if pair.role == "train"]
        return [
            Row(
                pair_id=pair.pair_id,
                concept=concept,
                side=side,
                prompt=pair.unsafe_prompt if side == "unsafe" else pair.safe_prompt,
                seed=records.pair_seed(pair.pair_id, model),
            )
            for pair in sorted(pairs, key=lambda pair: pair.pair_id)
            for side in SIDES
        ]

    def _keep_rendered(self) -> None:
        """Take over the images of the existing partition that an equal rendering would repeat.

        Pairs that come later thus leave the bytes of earlier ones as they are.
        """
        spec, folder = self._work.spec, self._work.folder
        if self._shards[-1][2] in self._work.saved_names():
            return
        try:
            made = manifests.load(folder)
            if made is None or (made.config, made.models) != (dict(spec.config), dict(spec.models)):
                return
            pairs = {row.pair_id for row in self._wanted}  # an id says both prompts and the seed
            for stem, record, name in self._shards:
                rows = [
                    row
                    for batch in manifests.read_batches(folder, stem, rows=_AT_ONCE)
                    for row in from_table(record, batch)
                    if row.pair_id in pairs
                ]
                if rows:
                    self._work.save_batch(name, to_table(record, rows))
        except IntegrityError as error:
            log.warning("%s: its images are rendered again: %s", spec.key, error)

    def save(self, rows: Sequence[Row], pixels: Pixels) -> None:
        """Encode and save one batch; its rejected images go to a separate file."""
        images, rejected = [], []
        for row, picture in zip(rows, pixels, strict=True):
            reason = reject_reason(picture)
            if reason:
                rejected.append(RejectedImage(reason=reason, **dataclasses.asdict(row)))
            else:
                images.append(self._image(row, picture))
        name = f"{rows[0].pair_id}-{rows[0].side}"
        if images:
            self._work.save_batch(f"images-{name}", to_table(RenderedImage, images))
        if rejected:
            self._work.save_batch(f"rejected-{name}", to_table(RejectedImage, rejected))
        self._have |= {(row.pair_id, row.side) for row in rows}

    def _image(self, row: Row, pixels: npt.NDArray[np.uint8]) -> RenderedImage:
        encoded = encode_png(pixels)
        return RenderedImage(
            image_id=records.image_id(encoded),
            num_inference_steps=self._sampling.num_inference_steps,
            guidance_scale=self._sampling.guidance_scale,
            height=pixels.shape[0],
            width=pixels.shape[1],
            phash=phash_hex(pixels),
            image=encoded,
            **self._model,
            **dataclasses.asdict(row),
        )

    def finish_if_complete(self, *, rate: float) -> None:
        """Write shards and manifest once all rows are rendered; ``rate`` is images per second.

        If no image is usable, the error is kept in ``nothing``, so the other concepts go on.
        """
        if self._work.done or self.nothing or len(self._have) < len(self._wanted):
            return
        try:
            self._finish(rate)
        except NothingMade as error:
            self.nothing = error

    def _finish(self, rate: float) -> None:
        rejected = pa.concat_tables(list(self._parts("rejected", RejectedImage)))
        reasons = Counter(rejected.column("reason").to_pylist())
        if reasons:
            log.warning("%s: unusable images: %s", self._work.spec.key, dict(reasons))
        self._work.finish(
            tables={
                "images": self._parts("images", RenderedImage),
                "rejected": rejected,
                **self._more_tables(),
            },
            rejected=reasons,
            counts={
                "images_asked": len(self._wanted),
                "images_per_second": round(rate, 2),
                "resumed_batches": self._resumed_batches,
                **self._more_counts(),
            },
            tally=self._tally(rejected),
            digests=digests(self._read_by_others()),
        )

    def _more_tables(self) -> dict[str, pa.Table]:
        return {}

    def _more_counts(self) -> dict[str, Any]:
        return {}

    def _tally(self, rejected: pa.Table) -> Tally:
        return Tally(
            wanted=len(self._wanted),
            made=len(self._wanted) - rejected.num_rows,
            unit="images",
            example=_example(rejected),
        )

    def _read_by_others(self) -> Iterator[tuple[str, Sequence[object]]]:
        """The parts that scores and pairs read of the images; image ids are hashes of the files."""
        for table in self._parts("images", RenderedImage, [*_KEY, "image_id", "phash"]):
            for row in table.to_pylist():
                yield FILES, [row[name] for name in (*_KEY, "image_id")]
                yield LOOKS, [row[name] for name in (*_KEY, "image_id", "phash")]

    def _parts(
        self, kind: str, record: type, columns: list[str] | None = None
    ) -> Iterator[pa.Table]:
        """The saved rows in parts of bounded size, one in memory at a time; at least one part.

        Only ``columns``, if given. Sorted, so the bytes do not depend on batch boundaries or
        restarts.
        """
        names = [name for name in self._work.saved_names() if name.startswith(f"{kind}-")]
        places = sorted(
            (key, name, row)
            for name in names
            for row, key in enumerate(_keys(self._work.load_batch(name, columns=_KEY)))
        )
        rows = max(1, PIXELS_PER_PART // (self._sampling.width * self._sampling.height))
        empty = records.schema_of(record).empty_table()
        for first in range(0, max(1, len(places)), rows):
            part = places[first : first + rows]
            wanted = {name: [r for _, n, r in part if n == name] for _, name, _ in part}
            read = [
                self._work.load_batch(name, columns=columns).take(rows)
                for name, rows in wanted.items()
            ]
            table = pa.concat_tables([empty.select(columns) if columns else empty, *read])
            yield table.sort_by([(name, "ascending") for name in _KEY]).combine_chunks()

    def manifest(self) -> Manifest:
        """The finished partition's manifest."""
        assert self._work.done, f"{self._work.spec.key} was not finished"
        return self._work.done


def _example(rejected: pa.Table) -> str:
    """Location of the first unusable image, without its prompt."""
    rows = rejected.slice(0, 1).select(["pair_id", "side"]).to_pylist()
    return f"the {rows[0]['side']} image of pair {rows[0]['pair_id']}" if rows else ""


_KEY = ["pair_id", "side"]
_AT_ONCE = 32


def _keys(table: pa.Table) -> list[tuple[str, Side]]:
    return list(zip(table["pair_id"].to_pylist(), table["side"].to_pylist(), strict=True))
