"""Features of a release's train images, batch by batch; an image is held only in its batch."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignguard_data.contracts.errors import EngineError, IntegrityError
from alignguard_data.contracts.protocols import FeatureExtractor
from alignguard_data.storage.parquet_files import open_parquet
from alignguard_data.storage.places import Place, list_folder
from alignguard_train.encodings.encoder import COLUMNS, preferences_of

READ = (*COLUMNS, "seed")
KEPT = ("pair_id", "concept", "category", "seed")
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairFeatures:
    """Features of pairs, without their images.

    Attributes:
        rows: ``pair_id``, ``concept``, ``category`` and ``seed`` of each pair.
        safe: of the chosen images, float32 (pairs, width).
        unsafe: of the rejected images, likewise.
    """

    rows: list[dict[str, object]]
    safe: Vectors
    unsafe: Vectors


def feature_batches(
    release: Place, extractor: FeatureExtractor, pairs: int, done: Collection[str]
) -> Iterator[tuple[str, pa.Table]]:
    """The features of a release's train pairs, in release order.

    Args:
        release: folder of the release.
        extractor: of the features.
        pairs: of one batch.
        done: names of batches to leave out.

    Yields:
        A batch's name, and its table with the columns of ``KEPT``, ``safe`` and ``unsafe``.

    Raises:
        IntegrityError: no shard, a missing column, or an image that cannot be decoded.
        EngineError: the extractor failed, or gave a vector that is not finite.
    """
    shards = list_folder(release / "data", "train-*.parquet")
    if not shards:
        raise IntegrityError(f"{release / 'data'} has no train-*.parquet")
    for shard in shards:
        with open_parquet(shard) as file:
            if missing := set(READ) - set(file.schema_arrow.names):
                raise IntegrityError(f"{shard} lacks column(s) {', '.join(sorted(missing))}")
            batches = file.iter_batches(batch_size=pairs, columns=list(READ))
            for number, batch in enumerate(batches):
                name = f"{shard.name.removesuffix('.parquet')}-{number:06d}"
                if name not in done:
                    rows = [{**row, "shard": shard.name} for row in batch.to_pylist()]
                    yield name, _table(rows, extractor)


def joined(tables: Sequence[pa.Table]) -> PairFeatures:
    """The batches as arrays.

    Args:
        tables: of :func:`feature_batches`, in order.

    Returns:
        All pairs.
    """
    whole = pa.concat_tables(tables)
    safe, unsafe = (
        whole[side].combine_chunks().flatten().to_numpy().reshape(len(whole), -1).copy()
        for side in ("safe", "unsafe")
    )
    return PairFeatures(rows=whole.select(KEPT).to_pylist(), safe=safe, unsafe=unsafe)


def features_of(extractor: FeatureExtractor, images: Sequence[npt.NDArray[np.uint8]]) -> Vectors:
    """Features of images of any sizes; images of one size are read together.

    Args:
        extractor: of the features.
        images: RGB (height, width, 3).

    Returns:
        Float32 (len(images), width).

    Raises:
        EngineError: a vector is not finite.
    """
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(place)
    order = [place for places in sizes.values() for place in places]
    parts = [extractor.features(np.stack([images[i] for i in places])) for places in sizes.values()]
    found = np.concatenate(parts).astype(np.float32)[np.argsort(order)]
    if not np.isfinite(found).all():
        raise EngineError(f"{extractor.name} gave features with NaN or infinity")
    return found


def _table(rows: list[dict[str, object]], extractor: FeatureExtractor) -> pa.Table:
    pairs = preferences_of(rows)
    both = features_of(extractor, [*pairs.chosen, *pairs.rejected])
    columns = {name: pa.array([row[name] for row in rows]) for name in KEPT}
    for side, part in zip(("safe", "unsafe"), np.split(both, 2), strict=True):
        columns[side] = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), both.shape[1])
    return pa.table(columns)
