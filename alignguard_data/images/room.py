"""Room ``images``: both prompts of each pair, rendered by the base model from the same noise.

Or the unsafe prompt only, whose image is edited into the safe one (DUO, arXiv 2407.21035).

Reads the train pairs of room ``prompts``. Writes tables ``images`` (RenderedImage) and ``rejected``
(RejectedImage), both sorted by pair and side.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import ImageEditor, ImageGenerator, Pixels, Progress
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.contracts.shard_records import TRAIN
from alignguard_data.images.edited_rendering import EditedRendering
from alignguard_data.images.editing import Editing, Made, Request
from alignguard_data.images.rendering import Rendering, Row
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.background import BackgroundThread
from alignguard_data.storage.basis import basis, reads
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.tally import raise_all

ROOM = "images"
FORMAT = 1
"""Part of the fingerprint: increment when the files change for equal pixels."""
KIND = "edited_pairs"
"""Field of a partition's configuration that makes it one of edited images."""


def spec(
    data: DataRoot,
    concept: str,
    generator: ImageGenerator,
    sampling: Sampling,
    editing: Editing | None = None,
) -> PartitionSpec:
    """Spec of one concept's images.

    Args:
        data: the data folder.
        concept: key of the concept.
        generator: the base model.
        sampling: its settings.
        editing: how safe images are made of unsafe ones; None renders both from the same noise.

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
        config={
            **sampling.fingerprint_fields,
            **basis(ROOM, format=FORMAT, engine=generator),
            **({KIND: editing.fingerprint_fields} if editing else {}),
        },
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
            concept: Rendering(
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
    rooms: dict[str, "Rendering"], generator: ImageGenerator, progress: Progress | None
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
    rooms: dict[str, "Rendering"], part: Sequence[Row], pixels: Pixels, rate: float
) -> Callable[[], None]:
    def save() -> None:
        for concept, places in _by_concept(part):
            rooms[concept].save([part[i] for i in places], pixels[places])
            rooms[concept].finish_if_complete(rate=rate)

    return save


def edit_pairs(
    data: DataRoot,
    concepts: Sequence[str],
    generator: ImageEditor,
    sampling: Sampling,
    editing: Editing,
    progress: Progress | None = None,
) -> dict[str, Manifest]:
    """Render the unsafe images of several concepts, and edit each into its pair's safe image.

    Rejected images, the pair's edit among them, have their reason; table ``edits`` has one row a
    pair. A killed run loses the pairs of the batch in flight.

    Args:
        data: the data folder.
        concepts: keys of the concepts.
        generator: the base model.
        sampling: its settings.
        editing: strength, retries and verification.
        progress: called with the number of images just finished, two a pair.

    Returns:
        Manifest by concept key, in the order of ``concepts``.

    Raises:
        InputMissing: a concept's prompt pairs are not complete.
        PartitionBusy: another process is rendering one of the concepts.
        EngineError: the base model cannot be loaded, run, or edit.
        NothingMade: concepts of which no pair passed; the others are made.
    """
    with ExitStack() as stack:
        rooms = {}
        for concept in concepts:
            wanted = spec(data, concept, generator, sampling, editing)
            work = stack.enter_context(open_partition(wanted))
            rooms[concept] = EditedRendering(work, data, generator, sampling)
        _edit_missing(rooms, generator, editing, progress)
        raise_all([room.nothing for room in rooms.values() if room.nothing])
        return {concept: room.manifest() for concept, room in rooms.items()}


def _edit_missing(
    rooms: dict[str, EditedRendering],
    generator: ImageEditor,
    editing: Editing,
    progress: Progress | None,
) -> None:
    requests = [one for room in rooms.values() for one in room.requests()]
    started, done = time.monotonic(), 0
    for room in rooms.values():
        room.finish_if_complete(rate=0.0)
    with BackgroundThread() as behind:
        while done < len(requests):
            part = requests[done : done + generator.images_per_call]
            made = editing.make(part, generator)
            done += len(part)
            if progress:
                progress(2 * len(part))
            rate = 2 * done / (time.monotonic() - started)
            behind.submit(_saving_pairs(rooms, part, made, rate))


def _saving_pairs(
    rooms: dict[str, EditedRendering],
    part: Sequence[Request],
    made: Sequence[Made],
    rate: float,
) -> Callable[[], None]:
    def save() -> None:
        for concept, places in _by_concept(part):
            rooms[concept].save_pairs([part[i] for i in places], [made[i] for i in places])
            rooms[concept].finish_if_complete(rate=rate)

    return save


def _by_concept(part: Sequence[Row] | Sequence[Request]) -> Iterator[tuple[str, list[int]]]:
    for concept in dict.fromkeys(row.concept for row in part):
        yield concept, [i for i, row in enumerate(part) if row.concept == concept]
