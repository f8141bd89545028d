"""Evaluated images on disk.

Files of bounded size per adapter, written while rendering and read by column.

All images' numbers fit into memory, encoded images do not. The base model's are read one file at a
time; of other adapters only those shown in the report are kept.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions at import, where no type checker sees them.

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignguard_data.contracts.records import schema_of, to_table
from alignguard_data.storage.partition import PartitionWork
from alignguard_train.contracts.adapter_names import BASE
from alignguard_train.evaluation.judge import BaseImage
from alignguard_train.evaluation.records import EvaluatedImage, SeededImage

Key = tuple[str, str]
"""Pair id and side."""

SHARD_BYTES = 256_000_000
"""Bytes of encoded images per file; far below the 2 GiB limit of an Arrow binary column."""

AGAIN = "again-"
"""Name prefix of saved verdicts on further seeds."""
_LARGE = ("features", "image")
NUMBERS = [field.name for field in dataclasses.fields(EvaluatedImage) if field.name not in _LARGE]


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Features of one adapter's images; ``values`` is float32 (images, width)."""

    places: Mapping[Key, int]
    values: npt.NDArray[np.float32]

    def of(self, keys: Collection[Key]) -> npt.NDArray[np.float32]:
        """Rows in the order of ``keys``."""
        return self.values[[self.places[key] for key in keys]]


class AdapterShards:
    """One adapter's files in the partition's unfinished work.

    Needs no lock: adapters never share a file, so different processes may fill them.

    Args:
        work: the evaluation's partition.
        number: the adapter's position; the base model is 0.
        name: see :mod:`alignguard_train.contracts.adapter_names`.
        shown: whether the report shows an image; other images are not kept, except the base
            model's.
    """

    def __init__(
        self,
        work: PartitionWork,
        number: int,
        name: str,
        shown: Callable[[EvaluatedImage], bool] = lambda image: False,
    ) -> None:
        self._work, self.name, self.prefix = work, name, f"{number:03d}-"
        self._shown = shown

    def files(self) -> list[str]:
        """Names of the files, sorted."""
        return [name for name in self._work.saved_names() if name.startswith(self.prefix)]

    def save(self, judged: Sequence[EvaluatedImage]) -> None:
        """Save one rendered batch, in files of at most :data:`SHARD_BYTES`."""
        kept = [self._lightened(image) for image in judged]
        first = held = 0
        for i, image in enumerate(kept):
            if i > first and held + len(image.image) > SHARD_BYTES:
                self._write(kept[first:i])
                first, held = i, 0
            held += len(image.image)
        self._write(kept[first:])

    def _lightened(self, image: EvaluatedImage) -> EvaluatedImage:
        kept = self.name == BASE or self._shown(image)
        return image if kept else dataclasses.replace(image, image=b"")

    def _write(self, images: Sequence[EvaluatedImage]) -> None:
        name = f"{self.prefix}{images[0].pair_id}-{images[0].side}"
        self._work.save_batch(name, to_table(EvaluatedImage, images))

    def save_again(self, judged: Sequence[SeededImage]) -> None:
        """Save the verdicts on one batch of further seeds."""
        name = f"{AGAIN}{self.prefix}{judged[0].number:03d}-{judged[0].pair_id}"
        self._work.save_batch(name, to_table(SeededImage, judged))

    def read_again(self) -> pa.Table:
        """All verdicts on further seeds."""
        start = f"{AGAIN}{self.prefix}"
        files = [name for name in self._work.saved_names() if name.startswith(start)]
        empty = schema_of(SeededImage).empty_table()
        return pa.concat_tables([empty, *(self._work.load_batch(name) for name in files)])

    def read(self, file: str, columns: Sequence[str]) -> pa.Table:
        """The named columns of one file."""
        return self._work.load_batch(file, columns=list(columns))

    def places(self) -> dict[Key, str]:
        """The file that holds each image."""
        return {key: file for file in self.files() for key in keys_of(self.read(file, _KEY))}

    def numbers(self) -> pa.Table:
        """All columns except features and images, by pair id and side."""
        parts = [self.read(file, NUMBERS) for file in self.files()]
        empty = schema_of(EvaluatedImage).empty_table().select(NUMBERS)
        return _sorted(pa.concat_tables([empty, *parts]))

    def features(self) -> FeatureRows:
        """Features of all images."""
        places: dict[Key, int] = {}
        values: list[npt.NDArray[np.float32]] = []
        for file in self.files():
            table = self.read(file, [*_KEY, "features"])
            places |= {key: len(places) + i for i, key in enumerate(keys_of(table))}
            raw = b"".join(table["features"].to_pylist())
            values.append(np.frombuffer(raw, np.float32).reshape(table.num_rows, -1))
        return FeatureRows(places, np.concatenate(values))

    def pictures(self, pairs: Collection[str]) -> pa.Table:
        """The rows of the report's ``pairs``, with their images, by pair id and side."""
        names = [*NUMBERS, "image"]
        wanted = pa.array(sorted(pairs), pa.string())
        found = {file for key, file in self.places().items() if key[0] in pairs}
        parts = [schema_of(EvaluatedImage).empty_table().select(names)]
        for file in sorted(found):
            table = self.read(file, names)
            kept = pc.and_(
                pc.is_in(table["pair_id"], value_set=wanted),
                pc.greater(pc.binary_length(table["image"]), 0),
            )
            parts.append(table.filter(kept))
        return _sorted(pa.concat_tables(parts))


class BaseImages(Mapping[Key, BaseImage]):
    """The base model's images by pair id and side; a few files in memory at a time."""

    FILES = 2
    """Files in memory. Adapters follow the base model's order, and a batch may span two files."""

    def __init__(self, shards: AdapterShards) -> None:
        self._shards = shards
        self._places = shards.places()
        self._open: OrderedDict[str, dict[Key, BaseImage]] = OrderedDict()

    def __getitem__(self, key: Key) -> BaseImage:
        file = self._places[key]
        if file not in self._open:
            table = self._shards.read(file, [*_KEY, *_LARGE])
            images = map(BaseImage, table["image"].to_pylist(), table["features"].to_pylist())
            while len(self._open) >= self.FILES:
                self._open.popitem(last=False)
            self._open[file] = dict(zip(keys_of(table), images, strict=True))
        return self._open[file][key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


_KEY = ["pair_id", "side"]


def keys_of(table: pa.Table) -> list[Key]:
    """Pair id and side of every row."""
    return list(zip(table["pair_id"].to_pylist(), table["side"].to_pylist(), strict=True))


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in _KEY]).combine_chunks()
