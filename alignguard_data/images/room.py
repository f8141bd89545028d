"""Room ``images``: both prompts of each pair, rendered by the base model from the same noise.

Reads the train pairs of room ``prompts``. Writes tables ``images`` (RenderedImage) and ``rejected``
(RejectedImage), both sorted by pair and side.
"""

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignguard_data.contracts import records
from alignguard_data.contracts.errors import EngineError, IntegrityError, NothingMade
from alignguard_data.contracts.pixels import encode_png, phash_hex, reject_reason
from alignguard_data.contracts.protocols import ImageGenerator, Pixels, Progress
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
from alignguard_data.contracts.shard_records import FILES, LOOKS, TRAIN
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.background import BackgroundThread
from alignguard_data.storage.basis import basis, digests, reads
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.tally import Tally, raise_all

log = logging.getLogger(__name__)

ROOM = "images"
FORMAT = 1
"""Part of the fingerprint: increment when the files change for equal pixels."""


PIXELS_PER_PART = 2**25
"""Pixels per row group of the shard: 128 images of 512x512, 100 MB before PNG."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """An image to render."""

    pair_id: str
    concept: str
    side: Side
    prompt: str
    seed: int


def spec(
    data: DataRoot, concept: str, generator: ImageGenerator, sampling: Sampling
) -> PartitionSpec:
    """Spec of one concept's images.

    Args:
        data: the data folder.
        concept: key of the concept.
        generator: the base model.
        sampling: its settings.

    Returns:
        The spec of the concept's partition.

    Raises:
        InputMissing: the concept's prompt pairs are not complete.
    """
    prompts = manifests.require(data.partition("prompts", concept))
    return PartitionSpec(
        folder=data.partition(ROOM, concept),
        room=ROOM,
        key=concept,
        config={**sampling.fingerprint_fields, **basis(ROOM, format=FORMAT, engine=generator)},
        inputs=reads(prompts, [TRAIN]),
        models={generator.model_id: generator.revision},
    )


def render_pairs(
    data: DataRoot,
    concepts: Sequence[str],
    generator: ImageGenerator,
    sampling: Sampling,
    progress: Progress | None = None,
) -> dict[str, Manifest]:
    """Render the missing images of several concepts. Batches span concepts, so they are full.

    Args:
        data: the data folder.
        concepts: keys of the concepts.
        generator: the base model.
        sampling: its settings.
        progress: called with the number of images just finished.

    Returns:
        Manifest by concept key, in the order of ``concepts``.

    Raises:
        InputMissing: a concept's prompt pairs are not complete.
        PartitionBusy: another process is rendering one of the concepts.
        EngineError: the base model cannot be loaded or run.
        NothingMade: concepts without a usable image; the others are made.
    """
    with ExitStack() as stack:
        rooms = {
            concept: _Rendering(
                stack.enter_context(open_partition(spec(data, concept, generator, sampling))),
                data,
                generator,
                sampling,
            )
            for concept in concepts
        }
        _render_missing(rooms, generator, progress)
        raise_all([room.nothing for room in rooms.values() if room.nothing])
        return {concept: room.manifest() for concept, room in rooms.items()}


def _render_missing(
    rooms: dict[str, "_Rendering"], generator: ImageGenerator, progress: Progress | None
) -> None:
    rows = [row for room in rooms.values() for row in room.missing]
    started, rendered = time.monotonic(), 0
    for room in rooms.values():
        room.finish_if_complete(rate=0.0)
    with BackgroundThread() as behind:
        while rendered < len(rows):
            # Read in each round: a generator that ran out of memory renders fewer at once.
            part = rows[rendered : rendered + generator.images_per_call]
            pixels = generator.render([r.prompt for r in part], [r.seed for r in part], progress)
            if len(pixels) != len(part):
                raise EngineError(f"requested {len(part)} images, got {len(pixels)}")
            rendered += len(part)
            rate = rendered / (time.monotonic() - started)
            behind.submit(_saving(rooms, part, pixels, rate))


def _saving(
    rooms: dict[str, "_Rendering"], part: Sequence[_Row], pixels: Pixels, rate: float
) -> Callable[[], None]:
    def save() -> None:
        for concept, places in _by_concept(part):
            rooms[concept].save([part[i] for i in places], pixels[places])
            rooms[concept].finish_if_complete(rate=rate)

    return save


def _by_concept(part: Sequence[_Row]) -> Iterator[tuple[str, list[int]]]:
    for concept in dict.fromkeys(row.concept for row in part):
        yield concept, [i for i, row in enumerate(part) if row.concept == concept]


class _Rendering:
    """One concept's partition during rendering, batch by batch."""

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
        self._have = {key for name in saved for key in _keys(work.load_batch(name))}
        self.missing = [row for row in self._wanted if (row.pair_id, row.side) not in self._have]

    def _read_rows(self, data: DataRoot) -> list[_Row]:
        concept, model = self._work.spec.key, self._model["base_model"]
        table = manifests.read(data.partition("prompts", concept), "pairs")
        pairs = [pair for pair in from_table(PromptPair, table) if pair.role == "train"]
        return [
            _Row(
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
        if _KEPT in self._work.saved_names():
            return
        try:
            made = manifests.load(folder)
            if made is None or (made.config, made.models) != (dict(spec.config), dict(spec.models)):
                return
            wanted = {(row.pair_id, row.side, row.prompt, row.seed) for row in self._wanted}
            for stem, record, name in _SHARDS:
                rows = [
                    row
                    for batch in manifests.read_batches(folder, stem, rows=_AT_ONCE)
                    for row in from_table(record, batch)
                    if (row.pair_id, row.side, row.prompt, row.seed) in wanted
                ]
                if rows:
                    self._work.save_batch(name, to_table(record, rows))
        except IntegrityError as error:
            log.warning("%s: its images are rendered again: %s", spec.key, error)

    def save(self, rows: Sequence[_Row], pixels: Pixels) -> None:
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

    def _image(self, row: _Row, pixels: npt.NDArray[np.uint8]) -> RenderedImage:
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
            tables={"images": self._parts("images", RenderedImage), "rejected": rejected},
            rejected=reasons,
            counts={
                "images_asked": len(self._wanted),
                "images_per_second": round(rate, 2),
                "resumed_batches": self._resumed_batches,
            },
            tally=Tally(
                wanted=len(self._wanted),
                made=len(self._wanted) - rejected.num_rows,
                unit="images",
                example=_example(rejected),
            ),
            digests=digests(self._read_by_others()),
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
_KEPT = "images-kept"
_SHARDS: tuple[tuple[str, Any, str], ...] = (
    ("rejected", RejectedImage, "rejected-kept"),
    ("images", RenderedImage, _KEPT),
)
"""Shard, record and batch of what is taken over; the images last, as a sign that all is."""


def _keys(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["pair_id"].to_pylist(), table["side"].to_pylist(), strict=True))
