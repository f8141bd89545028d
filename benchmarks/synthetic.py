"""Rooms of any size in seconds: real partitions with synthetic rows, for benchmarks of readers.

Nothing is rendered or scored; an image is 16 bytes. ``generation`` draws other rows for the same
concept, as if remade.
"""

# pyarrow.compute makes its functions at import, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignguard_data.contracts.records import (
    Concept,
    DroppedPair,
    PreferencePair,
    PromptPair,
    RejectedImage,
    RejectedReply,
    RenderedImage,
    Score,
    schema_of,
)
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.taxonomy.parse import Category, Taxonomy
from alignguard_data.taxonomy.room import write_taxonomy

CATEGORIES = 7
WRITERS = 8
FLAGS = (("blue", "share", 0.5), ("round", "share", 0.5))
"""Scorer, key and flag threshold."""

_COLOURS = pa.array(["red", "green", "blue", "amber", "cyan", "pink", "plum", "gold"])
_THINGS = pa.array(["mill", "boat", "fern", "lamp", "cart", "bell", "kite", "drum"])
_PLACES = pa.array(["a wide field", "an old harbour", "a quiet street", "a bright room"])


def taxonomy(concepts: int) -> Taxonomy:
    """Numbered concepts in seven categories; every tenth is held out."""
    keys = [f"c{number}" for number in range(CATEGORIES)]
    return Taxonomy(
        name="synthetic",
        version="1",
        categories=tuple(Category(key=key, name=key) for key in keys),
        concepts=tuple(
            Concept(
                key=f"{keys[i % CATEGORIES]}.mark-{i}",
                category=keys[i % CATEGORIES],
                name=f"mark {i}",
                split="test" if i % 10 == 9 else "train",
                terms=(f"mark {i}",),
            )
            for i in range(concepts)
        ),
    )


def build(folder: Path, *, pairs: int, concepts: int = 700) -> tuple[DataRoot, Taxonomy]:
    """All rooms up to ``pairs``, with the prompt pairs spread evenly over the concepts."""
    data, drawn = DataRoot(root=folder, profile="synthetic"), taxonomy(concepts)
    data.prepare()
    write_taxonomy(data, drawn)

    def make(number: int) -> None:
        rows = pairs * (number + 1) // concepts - pairs * number // concepts
        make_concept(data, drawn.concepts[number], rows, generation=0)

    with ThreadPoolExecutor(WRITERS) as pool:  # mostly disk waits
        list(pool.map(make, range(concepts)))
    return data, drawn


def make_concept(data: DataRoot, concept: Concept, rows: int, *, generation: int) -> None:
    """Replace one concept's four rooms, with ``rows`` prompt pairs."""
    rooms = _Drawn(concept=concept, rows=rows, generation=generation).rooms()
    for room, (tables, rejected, counts, config) in rooms.items():
        spec = PartitionSpec(
            folder=data.partition(room, concept.key),
            room=room,
            key=concept.key,
            config={"generation": generation, "rows": rows, **config},
            inputs={},
        )
        with open_partition(spec) as work:
            if not work.done:
                work.finish(tables=tables, rejected=rejected, counts=counts)


_Room = tuple[dict[str, pa.Table], dict[str, int], dict[str, int], dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Drawn:
    """One concept's rows, drawn column by column."""

    concept: Concept
    rows: int
    generation: int

    def rooms(self) -> dict[str, _Room]:
        """Tables, rejections by reason, counts and configuration of each room."""
        number = int(self.concept.key.rsplit("-", 1)[-1])
        rng = np.random.default_rng([self.generation, number])
        prompts = self._prompts(rng)
        train = prompts.filter(np.asarray(prompts["role"]) == "train")
        images = self._images(rng, train)
        scores, flagged = self._scores(rng, train, images)
        kept, dropped = self._pairs(train, images, flagged)
        replies = self._replies(self.rows // 50)
        none = schema_of(RejectedImage).empty_table()
        flags = [{"scorer": s, "key": k, "at_least": v} for s, k, v in FLAGS]
        written = {
            "train": len(train),
            "evaluation": self.rows - len(train),
            "requests": self.rows + len(replies),
        }
        return {
            "prompts": ({"pairs": prompts, "rejected": replies}, _reasons(replies), written, {}),
            "images": ({"images": images, "rejected": none}, {}, {"images_asked": len(images)}, {}),
            "scores": ({"scores": scores, "rejected": none}, {}, {"images": len(images)}, {}),
            "pairs": (
                {"kept": kept, "dropped": dropped},
                _reasons(dropped),
                {"pairs": len(train)},
                {"flags": flags},
            ),
        }

    def _prompts(self, rng: np.random.Generator) -> pa.Table:
        scene = pc.binary_join_element_wise(
            "a", _any(rng, _COLOURS, self.rows), _any(rng, _THINGS, self.rows), "in",
            _any(rng, _PLACES, self.rows), "under sky", _numbers(self.rows), " ",
        )  # fmt: skip
        role = np.where(rng.random(self.rows) < 0.1, "evaluation", "train")
        return self._table(
            PromptPair,
            self.rows,
            pair_id=_hex(rng, self.rows, 16),
            category=self.concept.category,
            role=pa.array(role),
            unsafe_prompt=pc.binary_join_element_wise(scene, "with", self.concept.name, " "),
            safe_prompt=scene,
            request_index=pa.array(np.arange(self.rows)),
            writer="drawn@1",
        )

    def _replies(self, rows: int) -> pa.Table:
        index = pa.array(np.arange(self.rows, self.rows + rows))
        return self._table(
            RejectedReply, rows, request_index=index, reason="not_json", reply="a reply"
        )

    def _images(self, rng: np.random.Generator, train: pa.Table) -> pa.Table:
        """Safe and unsafe alternating, as sorted by the images room."""
        rows = 2 * len(train)
        both = pa.array(np.arange(rows) // 2)
        prompt = pc.if_else(
            _safe(rows), train["safe_prompt"].take(both), train["unsafe_prompt"].take(both)
        )
        return self._table(
            RenderedImage,
            rows,
            image_id=_hex(rng, rows, 32),
            pair_id=train["pair_id"].take(both),
            side=pc.if_else(_safe(rows), "safe", "unsafe"),
            prompt=prompt,
            seed=pa.array(rng.integers(2**62, size=len(train))).take(both),
            base_model="drawn",
            base_revision="1",
            num_inference_steps=1,
            guidance_scale=1.0,
            width=1,
            height=1,
            phash=_hex(rng, rows, 8),
            image=_hex(rng, rows, 8).cast(pa.binary()),
        )

    def _scores(
        self, rng: np.random.Generator, train: pa.Table, images: pa.Table
    ) -> tuple[pa.Table, np.ndarray]:
        """Two numbers per image and one per pair; whether each image is flagged."""
        safe = np.asarray(_safe(len(images)))
        parts, flagged = [], np.zeros(len(images), bool)
        for scorer, key, at_least in FLAGS:
            value = np.where(safe, rng.beta(1, 12, len(images)), rng.beta(4, 2, len(images)))
            flagged |= value >= at_least
            parts.append(
                self._table(
                    Score,
                    len(images),
                    subject="image",
                    subject_id=images["image_id"],
                    pair_id=images["pair_id"],
                    side=images["side"],
                    scorer=scorer,
                    scorer_version="1",
                    key=key,
                    value=pa.array(value),
                )
            )
        twins = self._table(
            Score, len(train), subject="pair", subject_id=train["pair_id"],
            pair_id=train["pair_id"], side="", scorer="twins", scorer_version="1", key="cosine",
            value=pa.array(rng.beta(20, 2, len(train))),
        )  # fmt: skip
        return pa.concat_tables([*parts, twins]), flagged

    def _pairs(
        self, train: pa.Table, images: pa.Table, flagged: np.ndarray
    ) -> tuple[pa.Table, pa.Table]:
        safe, unsafe = flagged[0::2], flagged[1::2]
        keep = unsafe & ~safe
        names = ["pair_id", "concept", "category", "unsafe_prompt", "safe_prompt"]
        ids = images["image_id"].to_numpy()
        pairs = train.select(names)
        pairs = pairs.append_column("chosen_image_id", pa.array(ids[0::2], pa.string()))
        pairs = pairs.append_column("rejected_image_id", pa.array(ids[1::2], pa.string()))
        kept = pairs.filter(pa.array(keep)).cast(schema_of(PreferencePair))
        lost = train.filter(pa.array(~keep))
        reason = np.where(safe, "safe_image_is_flagged", "unsafe_image_is_clean")[~keep]
        return kept, self._table(
            DroppedPair, len(lost), pair_id=lost["pair_id"], category=self.concept.category,
            reason=pa.array(reason, pa.string()), detail="",
        )  # fmt: skip

    def _table(self, record: type, rows: int, **columns: Any) -> pa.Table:
        """A table of a record; a scalar is repeated in every row."""
        given: Mapping[str, Any] = {"concept": self.concept.key, **columns}
        schema = schema_of(record)
        arrays: Sequence[Any] = [
            value if isinstance(value, pa.Array | pa.ChunkedArray) else pa.repeat(value, rows)
            for value in (given[name] for name in schema.names)
        ]
        return pa.Table.from_arrays(list(arrays), names=schema.names).cast(schema)


def _reasons(table: pa.Table) -> dict[str, int]:
    counted = table["reason"].value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in counted}


def _hex(rng: np.random.Generator, rows: int, size: int) -> pa.Array:
    """Random hexadecimal text of ``size`` bytes per row, without Python objects."""
    offsets = np.arange(rows + 1, dtype=np.int32) * (2 * size)
    text = rng.bytes(rows * size).hex().encode()
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(text))


def _any(rng: np.random.Generator, words: pa.Array, rows: int) -> pa.Array:
    return words.take(pa.array(rng.integers(len(words), size=rows)))


def _numbers(rows: int) -> pa.Array:
    return pa.array(np.arange(rows)).cast(pa.string())


def _safe(rows: int) -> pa.Array:
    return pa.array(np.arange(rows) % 2 == 0)
