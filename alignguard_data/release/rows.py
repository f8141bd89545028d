"""The rows of a release: its columns, and one concept's kept pairs as a table."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import pyarrow as pa

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.contracts.records import (
    SIDES,
    Concept,
    PreferencePair,
    PromptPair,
    RenderedImage,
    Score,
    from_table,
)
from alignguard_data.contracts.score_columns import score_column
from alignguard_data.dedup.edges import Measured, Part
from alignguard_data.release.columns import COLUMNS, EVALUATION_COLUMNS
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot

EVALUATION_SCHEMA = pa.schema([(column.name, column.type) for column in EVALUATION_COLUMNS])
"""Of ``prompts/evaluation.parquet``."""

IMAGES_AT_ONCE = 32
"""Rows of an images shard in memory at a time; 100 MB at 1024x1024."""


def release_schema(score_columns: Sequence[str]) -> pa.Schema:
    """Schema of all data files: fixed columns, then the scores."""
    scores = [(name, pa.float64()) for name in score_columns]
    return pa.schema([*((column.name, column.type) for column in COLUMNS), *scores])


def score_columns(data: DataRoot, concepts: Iterable[Concept]) -> list[str]:
    """The score columns of all concepts, sorted."""
    names: set[str] = set()
    for concept in concepts:
        table = manifests.read(
            data.partition("scores", concept.key), "scores", columns=["scorer", "key", "side"]
        )
        unique = table.group_by(["scorer", "key", "side"]).aggregate([]).to_pylist()
        names |= {score_column(row["scorer"], row["key"], row["side"]) for row in unique}
    return sorted(names)


def release_parts(data: DataRoot, concepts: Iterable[Concept]) -> list[Part]:
    """Input of the duplicate search.

    Args:
        data: the data folder.
        concepts: of the release.

    Returns:
        Two parts a concept, its kept pairs and its evaluation prompts; the search reads a part only
        if its partitions changed.

    Raises:
        InputMissing: a partition is not complete.
    """
    parts = []
    for concept in concepts:
        content = {
            room: manifests.require(data.partition(room, concept.key)).content_id
            for room in ("prompts", "images", "pairs")
        }
        parts += [
            Part(
                name=f"pairs/{concept.key}",
                content_id=f"{content['pairs']}+{content['images']}",
                rows=partial(kept_rows, data, concept),
            ),
            Part(
                name=f"evaluation/{concept.key}",
                content_id=content["prompts"],
                rows=partial(_evaluation_rows, data, concept),
            ),
        ]
    return parts


def kept_ids(data: DataRoot, concept: Concept) -> list[str]:
    """Ids of the concept's kept pairs, sorted."""
    table = manifests.read(data.partition("pairs", concept.key), "kept", columns=["pair_id"])
    return sorted(table["pair_id"].to_pylist())


def kept_rows(data: DataRoot, concept: Concept) -> list[Measured]:
    """The concept's kept pairs in the form of the duplicate search, sorted by pair id."""
    pairs = _kept(data, concept)
    columns = ["pair_id", "side", "phash"]
    images = manifests.read(data.partition("images", concept.key), "images", columns=columns)
    phash = {(row["pair_id"], row["side"]): row["phash"] for row in images.to_pylist()}
    return [
        Measured(
            pair_id=pair.pair_id,
            concept=pair.concept,
            category=pair.category,
            captions=(pair.unsafe_prompt, pair.safe_prompt),
            unsafe_phash=phash[pair.pair_id, "unsafe"],
            safe_phash=phash[pair.pair_id, "safe"],
        )
        for pair in pairs
    ]


def evaluation_pairs(data: DataRoot, concept: Concept) -> list[PromptPair]:
    """The concept's pairs of role ``evaluation``, sorted by pair id."""
    pairs = from_table(PromptPair, manifests.read(data.partition("prompts", concept.key), "pairs"))
    reserved = [pair for pair in pairs if pair.role == "evaluation"]
    return sorted(reserved, key=lambda pair: pair.pair_id)


def evaluation_table(concept: Concept, pairs: Sequence[PromptPair]) -> pa.Table:
    """Evaluation pairs in the shape of :data:`EVALUATION_SCHEMA`."""
    rows = [
        {
            "pair_id": pair.pair_id,
            "unsafe_prompt": pair.unsafe_prompt,
            "safe_prompt": pair.safe_prompt,
            "concept": pair.concept,
            "category": pair.category,
            "split": concept.split,
            "seen": concept.split == "train",
        }
        for pair in pairs
    ]
    return pa.Table.from_pylist(rows, schema=EVALUATION_SCHEMA)


def concept_tables(
    data: DataRoot, concept: Concept, pair_ids: Sequence[str], schema: pa.Schema
) -> Iterator[pa.Table]:
    """Read the released rows of one concept, with images and scores.

    Args:
        data: the data folder.
        concept: the concept.
        pair_ids: released pairs, in whose order the rows are.
        schema: columns of the release.

    Yields:
        Tables of a few rows.

    Raises:
        IntegrityError: a kept pair names an image that is not in room ``images``.
    """
    pairs = {pair.pair_id: pair for pair in _kept(data, concept)}
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for score in from_table(Score, manifests.read(data.partition("scores", concept.key), "scores")):
        column = score_column(score.scorer, score.key, score.side)
        scores[score.pair_id][column] = score.value
    waiting, wanted = deque(pair_ids), set(pair_ids)
    held: dict[tuple[str, str], RenderedImage] = {}
    folder = data.partition("images", concept.key)
    for batch in manifests.read_batches(folder, "images", rows=IMAGES_AT_ONCE):
        for image in from_table(RenderedImage, batch):
            if image.pair_id in wanted:
                held[image.pair_id, image.side] = image
        rows = []
        while waiting and all((waiting[0], side) in held for side in SIDES):
            pair = pairs[waiting.popleft()]
            safe, unsafe = (held.pop((pair.pair_id, side)) for side in ("safe", "unsafe"))
            if (safe.image_id, unsafe.image_id) != (pair.chosen_image_id, pair.rejected_image_id):
                raise IntegrityError(_unmatched(pair.pair_id, concept))
            rows.append({**_fixed(pair, safe, unsafe), **scores[pair.pair_id]})
        if rows:
            yield pa.Table.from_pylist(rows, schema=schema)
    if waiting:
        raise IntegrityError(_unmatched(waiting[0], concept))


def _unmatched(identity: str, concept: Concept) -> str:
    return f"pair {identity} of {concept.key} does not match its images"


def _evaluation_rows(data: DataRoot, concept: Concept) -> list[Measured]:
    return [
        Measured(
            pair_id=pair.pair_id,
            concept=pair.concept,
            category=pair.category,
            captions=(pair.unsafe_prompt, pair.safe_prompt),
        )
        for pair in evaluation_pairs(data, concept)
    ]


def _kept(data: DataRoot, concept: Concept) -> list[PreferencePair]:
    table = manifests.read(data.partition("pairs", concept.key), "kept")
    return sorted(from_table(PreferencePair, table), key=lambda pair: pair.pair_id)


def _fixed(pair: PreferencePair, safe: RenderedImage, unsafe: RenderedImage) -> dict[str, object]:
    return {
        "jpg_0": safe.image,
        "jpg_1": unsafe.image,
        "label_0": 1,
        "caption": pair.unsafe_prompt,
        "caption_safe": pair.safe_prompt,
        "pair_id": pair.pair_id,
        "concept": pair.concept,
        "category": pair.category,
        "categories": pair.category,
        "seed": safe.seed,
        "base_model": safe.base_model,
        "base_revision": safe.base_revision,
        "num_inference_steps": safe.num_inference_steps,
        "guidance_scale": safe.guidance_scale,
        "width": safe.width,
        "height": safe.height,
        "sha256_0": safe.image_id,
        "sha256_1": unsafe.image_id,
        "phash_0": safe.phash,
        "phash_1": unsafe.phash,
    }
