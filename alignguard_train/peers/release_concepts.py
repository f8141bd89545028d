"""The concepts of a release's train split, for peers: what our adapter was trained on."""

import pyarrow as pa

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.storage.parquet_files import dataset
from alignguard_data.storage.places import Place, list_folder
from alignguard_train.peers.concept import Concept

_COLUMNS = ["pair_id", "concept", "category", "caption", "caption_safe"]


def release_concepts(release: Place, *, examples: int) -> list[Concept]:
    """Every concept of the train split with its first ``examples`` prompt pairs by pair id.

    A concept's name is the last part of its key, with spaces. Held-out concepts are excluded.

    Args:
        release: folder of the release.
        examples: the most pairs of a concept.

    Returns:
        Concepts sorted by key.

    Raises:
        IntegrityError: the release has no train shard, or it lacks a column.
    """
    shards = list_folder(release / "data", "train-*.parquet")
    if not shards:
        raise IntegrityError(f"{release / 'data'} has no train-*.parquet")
    try:
        rows = dataset(shards).to_table(columns=_COLUMNS).sort_by("pair_id").to_pylist()
    except (KeyError, pa.ArrowInvalid) as error:
        raise IntegrityError(f"{release / 'data'}: {error}") from error
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row["concept"], []).append(row)
    return [
        Concept(
            category=own[0]["category"],
            name=key.partition(".")[2].replace("-", " "),
            examples=tuple((row["caption"], row["caption_safe"]) for row in own[:examples]),
        )
        for key, own in sorted(found.items())
    ]
