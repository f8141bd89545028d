"""Near-duplicate edges among kept pairs and evaluation prompts, in DuckDB tables.

A rebuildable cache of each row's texts and hashes, its hash keys, its vector, and all edges. A new
row is compared once with all others, and a removed row takes its edges with it. The edges depend
only on the rows, the limits and the embedder, not on the order of updates. What to drop is decided
in :mod:`alignguard_data.dedup.decide`.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from alignguard_data.contracts.protocols import TextEmbedder
from alignguard_data.dedup.search import (
    TABLES,
    Connection,
    Vectors,
    equal_captions,
    near_images,
    near_meanings,
    near_prompts,
    registered,
    transaction,
)

Kind = Literal["exact", "caption", "prompt", "image", "one_image", "semantic"]
"""``exact``: equal unsafe prompts; ``caption``: another two captions are equal; ``prompt``: unsafe
prompts over the Jaccard limit; ``image``: both sides within the distance; ``one_image``: the unsafe
images only, or equal hashes of the safe ones; ``semantic``: unsafe prompts over the cosine limit.
Captions are compared in canonical form."""

ROWS_AT_ONCE = 4096
"""Rows compared per transaction, the most that a killed process loses."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The fields of a row that are compared; evaluation rows have no images."""

    pair_id: str
    concept: str
    category: str
    captions: tuple[str, str]
    """Unsafe prompt, safe prompt."""
    unsafe_phash: str = ""
    safe_phash: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Rows that change together; read only when ``content_id`` changed."""

    name: str
    content_id: str
    rows: Callable[[], Sequence[Measured]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How close two rows may be; None disables a test."""

    max_prompt_jaccard: float | None = None
    max_phash_distance: int | None = None
    max_semantic_cosine: float | None = None


class Edge(NamedTuple):
    """Two pair ids, the smaller one first, and their similarity.

    ``value`` is 1 for equal captions, a Jaccard index, a cosine, or for images the Hamming distance
    in bits of the further side (``one_image``: of the nearer one).
    """

    one: str
    other: str
    kind: Kind
    value: float


def identity_of(embedder: TextEmbedder) -> str:
    """Name and version; vectors of different identities are never compared."""
    return f"{embedder.name} {embedder.version}"


class NearEdges:
    """The edge store over an open DuckDB connection (its own file, an empty one, or memory).

    Edges of a kind are searched again if its limit changed, and vectors are computed again for
    another embedder.

    Args:
        connection: its tables are created if they are missing.
        limits: which tests to run, and how close is too close.
        embedder: needed for a cosine limit only.

    Raises:
        ValueError: a cosine limit without an embedder.
    """

    def __init__(
        self, connection: Connection, limits: Limits, embedder: TextEmbedder | None = None
    ) -> None:
        if limits.max_semantic_cosine is not None and embedder is None:
            raise ValueError("max_semantic_cosine needs an embedder")
        self._connection, self._limits, self._embedder = connection, limits, embedder
        self.compared: dict[str, int] = {}
        """Number of rows compared in the last :meth:`sync`, by the table of a kind."""
        connection.execute("set enable_progress_bar = false")  # keeps our own bar intact
        for table, columns in {**_OWN_TABLES, **TABLES}.items():
            connection.execute(f"create table if not exists {table} ({columns})")
        self._forget_other_limits()

    def sync(self, parts: Sequence[Part]) -> None:
        """Add new rows of ``parts``, remove rows that are in none, and find the edges.

        A transaction takes at most :data:`ROWS_AT_ONCE` rows; a killed process loses one of them.

        Args:
            parts: all rows that there are; a part with a known ``content_id`` is not read.
        """
        self._take(parts)
        connection, limits, embedder = self._connection, self._limits, self._embedder
        self.compared = {"captions": self._extend("captions", partial(equal_captions, connection))}
        if (jaccard := limits.max_prompt_jaccard) is not None:
            find = partial(near_prompts, connection, max_jaccard=jaccard)
            self.compared["bands"] = self._extend("bands", find)
        if (distance := limits.max_phash_distance) is not None:
            find = partial(near_images, connection, max_distance=distance)
            self.compared["pieces"] = self._extend("pieces", find, "unsafe_phash is not null")
        if (cosine := limits.max_semantic_cosine) is not None and embedder:
            find = partial(near_meanings, connection, max_cosine=cosine, embedder=embedder)
            self.compared["meanings"] = self._extend("meanings", find)

    def edges(self) -> list[Edge]:
        """Every edge, sorted."""
        found = self._connection.execute(
            """select least(a.pair_id, b.pair_id), greatest(a.pair_id, b.pair_id), kind, value
               from edges join rows a on a.number = one join rows b on b.number = other
               order by all"""
        ).fetchall()
        return [Edge(*row) for row in found]

    def vectors_of(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """The stored vectors of these unsafe prompts.

        Args:
            texts: prompts, byte for byte as they were stored.

        Returns:
            Unit vector of shape (width,) by prompt; prompts without a vector are left out.
        """
        wanted = pa.table({"text": pa.array(sorted(set(texts)), pa.string())})
        with registered(self._connection, "wanted", wanted):
            found = self._connection.execute(
                """select unsafe, any_value(vector) from rows
                   join wanted on text = unsafe join vectors using (number) group by unsafe"""
            ).fetchall()
        return {text: np.array(vector, dtype=np.float32) for text, vector in found}

    def _forget_other_limits(self) -> None:
        limits, embedder = self._limits, self._embedder
        self._forget_unless("bands", limits.max_prompt_jaccard, ["prompt"])
        self._forget_unless("pieces", limits.max_phash_distance, ["image", "one_image"])
        cosine = limits.max_semantic_cosine
        if embedder and cosine is not None:
            identity = identity_of(embedder)
            self._forget_unless("vectors", identity, [])
            self._forget_unless("meanings", [cosine, identity], ["semantic"])
        else:
            self._forget_unless("meanings", None, ["semantic"])

    def _forget_unless(self, table: str, wanted: object, kinds: list[str]) -> None:
        """Empty a table and drop its kinds of edges unless it was filled for ``wanted``."""
        connection, setting = self._connection, json.dumps(wanted)
        if connection.execute(
            "select 1 from settings where name = ? and value = ?", [table, setting]
        ).fetchall():
            return
        with transaction(connection):
            connection.execute(f"delete from {table}")
            connection.execute("delete from edges where list_contains(?::varchar[], kind)", [kinds])
            connection.execute("delete from settings where name = ?", [table])
            connection.execute("insert into settings values (?, ?)", [table, setting])

    def _take(self, parts: Sequence[Part]) -> None:
        connection = self._connection
        stored = dict(connection.execute("select name, content_id from parts").fetchall())
        wanted = {part.name: part.content_id for part in parts}
        changed = [part for part in parts if stored.get(part.name) != part.content_id]
        replaced = [name for name in stored if wanted.get(name) != stored[name]]
        if not changed and not replaced:
            return
        names = pa.table({"name": list(wanted), "content_id": list(wanted.values())}, schema=_PARTS)
        with (
            registered(connection, "incoming", _row_table(changed)),
            registered(connection, "wanted", names),
            transaction(connection),
        ):
            connection.execute(_GONE, [replaced])
            for table in ("rows", *TABLES):
                connection.execute(f"delete from {table} where number in (from gone)")
            connection.execute("delete from edges where one in (from gone) or other in (from gone)")
            connection.execute(_ARRIVED)
            connection.execute("delete from parts")
            connection.execute("insert into parts from wanted")

    def _extend(
        self, table: str, find: Callable[[pa.Table], pa.Table], condition: str = "true"
    ) -> int:
        """Compare rows that are not in ``table`` yet, a batch per transaction; returns the count.

        Rows enter a table in the order of their numbers, and new rows have the largest, so a
        batch is compared with all rows by looking at the smaller numbers, its own included.
        """
        compared = 0
        while True:
            batch = self._connection.sql(
                f"""select * from rows where {condition}
                    and number > (select coalesce(max(number), 0) from {table})
                    order by number limit {ROWS_AT_ONCE}"""
            ).to_arrow_table()
            if not batch.num_rows:
                return compared
            with (
                transaction(self._connection),
                registered(self._connection, "found", find(batch)),
            ):
                self._connection.execute("insert into edges from found")
            compared += batch.num_rows


_OWN_TABLES = {
    "settings": "name varchar, value varchar",
    "parts": "name varchar, content_id varchar",
    "rows": (
        "number integer, part varchar, pair_id varchar, unsafe varchar, safe varchar, "
        "unsafe_phash ubigint, safe_phash ubigint"
    ),
    "edges": "one integer, other integer, kind varchar, value double",
}
_PARTS = pa.schema([("name", pa.string()), ("content_id", pa.string())])
_ROWS = pa.schema(
    [
        *((name, pa.string()) for name in ("part", "pair_id", "unsafe", "safe")),
        *((name, pa.uint64()) for name in ("unsafe_phash", "safe_phash")),
    ]
)
_SAME = " and ".join(f"i.{name} is not distinct from r.{name}" for name in _ROWS.names)
_GONE = f"""create or replace temp table gone as select number from rows r
    where list_contains(?::varchar[], part)
    and not exists (select 1 from incoming i where {_SAME})"""
_ARRIVED = f"""insert into rows
    select (select coalesce(max(number), 0) from rows) + row_number() over (), i.*
    from incoming i where not exists (select 1 from rows r where {_SAME})"""


def _row_table(parts: Sequence[Part]) -> pa.Table:
    # One part at a time: Python rows take far more memory than a table.
    return pa.concat_tables([_ROWS.empty_table(), *map(_part_table, parts)])


def _part_table(part: Part) -> pa.Table:
    rows = part.rows()
    columns: dict[str, Any] = {
        "part": [part.name] * len(rows),
        "pair_id": [row.pair_id for row in rows],
        "unsafe": [row.captions[0] for row in rows],
        "safe": [row.captions[1] for row in rows],
        "unsafe_phash": [int(row.unsafe_phash, 16) if row.unsafe_phash else None for row in rows],
        "safe_phash": [int(row.safe_phash, 16) if row.safe_phash else None for row in rows],
    }
    return pa.table(columns, schema=_ROWS)
