"""Room ``scores``: each scorer's raw numbers for all images and prompt pairs, in long form.

One partition per concept. Each image is decoded once for all scorers. An image that cannot be
decoded or does not match its row is rejected without affecting others. Each scorer's part of a
chunk is saved when done, and earlier scores by the same version are reused.
"""

import hashlib
import io
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from alignguard_data.contracts.errors import EngineError, IntegrityError
from alignguard_data.contracts.protocols import ImageScorer, PairScorer, Pixels, Progress
from alignguard_data.contracts.records import (
    PromptPair,
    RejectedImage,
    RenderedImage,
    Score,
    from_table,
    schema_of,
    to_table,
)
from alignguard_data.contracts.score_columns import check_score_columns
from alignguard_data.contracts.shard_records import FILES, SCORED, TRAIN, score_part
from alignguard_data.contracts.vocabulary import ATTACK_WRITER
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis, digests, reads
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place
from alignguard_data.storage.tally import Tally

ROOM = "scores"
FORMAT = 1
"""Part of the fingerprint: increment when the files change for equal numbers."""
IMAGE_CORRUPT = "image_corrupt"

IMAGES_PER_CHUNK = 256
PIXELS_PER_CHUNK = 2**26
"""Pixels per chunk: 256 images of 512x512 or 64 of 1024x1024; 200 MB."""

_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    EOFError,
    Image.DecompressionBombError,
)
"""Pillow's exceptions for damaged files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedImages:
    """The readable images of a chunk with pixels, and the rejected ones with reasons."""

    rows: list[RenderedImage]
    pixels: Pixels
    rejected: list[RejectedImage]


def spec(
    data: DataRoot,
    concept: str,
    image_scorers: Sequence[ImageScorer],
    pair_scorers: Sequence[PairScorer],
) -> PartitionSpec:
    """Spec of the concept's scores.

    Args:
        data: the data folder.
        concept: key of the concept.
        image_scorers: scorers of images.
        pair_scorers: scorers of prompt pairs.

    Returns:
        The spec of the concept's partition.

    Raises:
        InputMissing: the concept's prompts or images are not complete.
        ConfigError: two scorers would share a column.
    """
    check_score_columns(image_scorers, pair_scorers)
    scorers = [*image_scorers, *pair_scorers]
    return PartitionSpec(
        folder=data.partition(ROOM, concept),
        room=ROOM,
        key=concept,
        config={
            "keys": {scorer.name: list(scorer.keys) for scorer in scorers},
            **basis(ROOM, format=FORMAT),
        },
        inputs={
            **reads(manifests.require(data.partition("prompts", concept)), [TRAIN]),
            **reads(manifests.require(data.partition("images", concept)), [FILES]),
        },
        models={scorer.name: scorer.version for scorer in scorers},
    )


def score_concept(
    data: DataRoot,
    concept: str,
    image_scorers: Sequence[ImageScorer],
    pair_scorers: Sequence[PairScorer],
    progress: Progress | None = None,
) -> Manifest:
    """Score one concept's images and its pairs of role ``train``.

    Tables: ``scores`` (Score) and ``rejected`` (RejectedImage). Of a hard negative's images a
    scorer sees the safe prompt, as the judge of attacks does.

    Args:
        data: the data folder.
        concept: key of the concept.
        image_scorers: scorers of images.
        pair_scorers: scorers of prompt pairs.
        progress: called with the number of images just finished.

    Returns:
        The partition's manifest.

    Raises:
        InputMissing: the concept's prompts or images are not complete.
        EngineError: a scorer omitted a key or returned a non-finite number.
        NothingMade: there are images, but none can be scored.
    """
    with open_partition(spec(data, concept, image_scorers, pair_scorers)) as work:
        if work.done:
            return work.done
        known = earlier_scores(work.spec, [*image_scorers, *pair_scorers])
        table = manifests.read(data.partition("prompts", concept), "pairs")
        pairs = [pair for pair in from_table(PromptPair, table) if pair.role == "train"]
        # An attack's prompt need not name a scene, and its twin's scene is what it should show.
        instead = {p.pair_id: p.safe_prompt for p in pairs if p.writer.startswith(ATTACK_WRITER)}
        parts: list[pa.Table] = []
        rejected: list[RejectedImage] = []
        looked = 0
        for decoded in _chunks(data.partition("images", concept)):
            rejected += decoded.rejected
            parts += [
                _score_images(work, scorer, decoded, looked, known.get(scorer.name), instead)
                for scorer in image_scorers
            ]
            seen = len(decoded.rows) + len(decoded.rejected)
            looked += seen
            if progress:
                progress(seen)
        parts += [
            _score_pairs(work, scorer, pairs, known.get(scorer.name)) for scorer in pair_scorers
        ]
        scores = pa.concat_tables([to_table(Score, []), *parts])
        return work.finish(
            tables={"scores": scores, "rejected": to_table(RejectedImage, rejected)},
            rejected={IMAGE_CORRUPT: len(rejected)} if rejected else {},
            counts={
                "images": looked - len(rejected),
                "pairs": len(pairs),
                **({"reused_scorers": ", ".join(sorted(known))} if known else {}),
            },
            tally=_tally(looked, rejected),
            digests=digests(_read_by_pairs(scores)),
        )


def _chunks(folder: Place) -> Iterator[DecodedImages]:
    for chunk in manifests.read_batches(folder, "images", rows=chunk_rows(folder)):
        yield decode(from_table(RenderedImage, chunk))


def _read_by_pairs(scores: pa.Table) -> Iterator[tuple[str, Sequence[object]]]:
    columns = ["pair_id", "side", "scorer", "key", "scorer_version", "value"]
    seen: set[tuple[str, str]] = set()
    for pair, side, scorer, key, version, value in zip(
        *(scores[name].to_pylist() for name in columns), strict=True
    ):
        yield score_part(scorer, key), [pair, side, version, value]
        if (pair, side) not in seen:
            seen.add((pair, side))
            yield SCORED, [pair, side]


def _tally(looked: int, rejected: Sequence[RejectedImage]) -> Tally:
    example = f"the {rejected[0].side} image of pair {rejected[0].pair_id}" if rejected else ""
    return Tally(wanted=looked, made=looked - len(rejected), unit="scored images", example=example)


def chunk_rows(folder: Place) -> int:
    """Images per chunk, from the size that was requested."""
    size = manifests.require(folder).config
    pixels = int(size.get("width", 1)) * int(size.get("height", 1))
    return max(1, min(IMAGES_PER_CHUNK, PIXELS_PER_CHUNK // pixels))


def earlier_scores(
    spec: PartitionSpec, scorers: Sequence[ImageScorer | PairScorer]
) -> dict[str, pa.Table]:
    """Reusable scores of the existing partition.

    Args:
        spec: the partition as it should be.
        scorers: all scorers of the profile.

    Returns:
        Score table by scorer: of the same images and prompts, by the same version and keys. A
        damaged partition has none.
    """
    try:
        before = manifests.load(spec.folder)
        if before is None or before.inputs != dict(spec.inputs):
            return {}
        table = manifests.read(spec.folder, "scores").cast(schema_of(Score))
    except IntegrityError:
        return {}
    keys = before.config.get("keys", {})
    return {
        scorer.name: table.filter(pc.equal(table["scorer"], scorer.name))  # pyright: ignore[reportAttributeAccessIssue]
        for scorer in scorers
        if before.models.get(scorer.name) == scorer.version
        and keys.get(scorer.name) == list(scorer.keys)
    }


def decode(rows: Sequence[RenderedImage]) -> DecodedImages:
    """Decode encoded images.

    An image is corrupt if its bytes do not match its id, it cannot be fully decoded, is not 8-bit
    RGB, or has another size than its row and the chunk's first readable image.

    Args:
        rows: encoded images.

    Returns:
        The readable images with uint8 pixels (readable, height, width, 3), and the rejected ones.
    """
    good: list[RenderedImage] = []
    pixels: list[Pixels] = []
    rejected: list[RejectedImage] = []
    for row in rows:
        image = _decode(row)
        if image is None or (pixels and image.shape != pixels[0].shape):
            rejected.append(_corrupt(row))
        else:
            good.append(row)
            pixels.append(image)
    stacked = np.stack(pixels) if pixels else np.empty((0, 1, 1, 3), np.uint8)
    return DecodedImages(rows=good, pixels=stacked, rejected=rejected)


def _decode(row: RenderedImage) -> Pixels | None:
    if hashlib.sha256(row.image).hexdigest() != row.image_id:
        return None
    try:
        with Image.open(io.BytesIO(row.image)) as opened:
            # Other modes (16 bit, palette, alpha) would change the pixels that a scorer sees.
            if opened.mode != "RGB" or opened.size != (row.width, row.height):
                return None
            return np.array(opened)
    except _UNREADABLE:
        return None


def _corrupt(row: RenderedImage) -> RejectedImage:
    return RejectedImage(
        pair_id=row.pair_id,
        concept=row.concept,
        side=row.side,
        prompt=row.prompt,
        seed=row.seed,
        reason=IMAGE_CORRUPT,
    )


def _score_images(
    work: PartitionWork,
    scorer: ImageScorer,
    decoded: DecodedImages,
    first: int,
    known: pa.Table | None,
    instead: Mapping[str, str],
) -> pa.Table:
    """Scores of a chunk; ``instead`` is the prompt that a scorer sees of a pair's images."""
    name = f"images-{first:08d}-{scorer.name}"
    if name in work.saved_names():
        return work.load_batch(name).cast(schema_of(Score))
    rows = decoded.rows
    if known is not None:
        here = {(row.pair_id, row.side) for row in rows}
        places = zip(known["pair_id"].to_pylist(), known["side"].to_pylist(), strict=True)
        return known.filter(pa.array([place in here for place in places], pa.bool_()))
    prompts = [instead.get(row.pair_id, row.prompt) for row in rows]
    numbers = scorer.score(decoded.pixels, prompts) if rows else []
    _check(scorer, numbers, len(rows))
    by = {"scorer": scorer.name, "scorer_version": scorer.version}
    table = to_table(
        Score,
        (
            _score("image", row.image_id, row.pair_id, row.concept, row.side, by, key, values)
            for row, values in zip(rows, numbers, strict=True)
            for key in scorer.keys
        ),
    )
    work.save_batch(name, table)
    return table


def _score_pairs(
    work: PartitionWork, scorer: PairScorer, pairs: Sequence[PromptPair], known: pa.Table | None
) -> pa.Table:
    if known is not None:
        return known
    name = f"pairs-{scorer.name}"
    if name in work.saved_names():
        return work.load_batch(name).cast(schema_of(Score))
    numbers = scorer.score(pairs) if pairs else []
    _check(scorer, numbers, len(pairs))
    by = {"scorer": scorer.name, "scorer_version": scorer.version}
    table = to_table(
        Score,
        (
            _score("pair", pair.pair_id, pair.pair_id, pair.concept, "", by, key, values)
            for pair, values in zip(pairs, numbers, strict=True)
            for key in scorer.keys
        ),
    )
    work.save_batch(name, table)
    return table


def _score(
    subject: str,
    subject_id: str,
    pair: str,
    concept: str,
    side: str,
    by: Mapping[str, str],
    key: str,
    values: dict[str, float],
) -> Score:
    return Score(
        subject=subject,
        subject_id=subject_id,
        pair_id=pair,
        concept=concept,
        side=side,
        **by,
        key=key,
        value=float(values[key]),
    )


def _check(
    scorer: ImageScorer | PairScorer, numbers: Sequence[dict[str, float]], wanted: int
) -> None:
    if len(numbers) != wanted:
        raise EngineError(f"scorer {scorer.name} gave {len(numbers)} scores for {wanted} subjects")
    for values in numbers:
        if set(values) != set(scorer.keys):
            raise EngineError(
                f"scorer {scorer.name} gave the keys {sorted(values)}, "
                f"not its own {sorted(scorer.keys)}"
            )
        for key, value in values.items():
            if not math.isfinite(value):
                raise EngineError(f"scorer {scorer.name} gave {value} for {key}")
