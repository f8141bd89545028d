"""Searches for the edges of new rows, one per kind, over the store's DuckDB tables.

Each search takes a batch of new rows (an Arrow table with ``number, unsafe, safe, unsafe_phash,
safe_phash``), adds the batch to its own table, and returns the edges between the batch and every
row of a smaller number as ``one, other, kind, value``. Hash keys propose candidates; exact values
decide.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignguard_data.contracts.protocols import TextEmbedder
from alignguard_data.contracts.text import canonical
from alignguard_data.dedup.near import band_keys, jaccard, piece_keys, shingles

TABLES = {
    "captions": "number integer, side utinyint, caption varchar",
    "bands": "number integer, place usmallint, key ubigint",
    "pieces": "number integer, place usmallint, key ubigint",
    "vectors": "number integer, vector float[]",
    "meanings": "number integer",
}
"""A row is in its kind's table once it was compared; ``vectors`` are kept if the limit changes."""

EDGES = pa.schema(
    [("one", pa.int32()), ("other", pa.int32()), ("kind", pa.string()), ("value", pa.float64())]
)

_COSINE_DIGITS = 6
_MARGIN = 1e-4  # exceeds the rounding error of a float32 product of unit vectors
_STORED_AT_ONCE = 8192
_CANDIDATES_AT_ONCE = 10_000

Connection = duckdb.DuckDBPyConnection
Vectors = npt.NDArray[np.float32]


@contextmanager
def registered(connection: Connection, name: str, table: pa.Table) -> Iterator[None]:
    """Make a table readable by SQL inside the block.

    Args:
        connection: the edge store.
        name: the table's name in queries.
        table: its rows.
    """
    connection.register(name, table)
    try:
        yield
    finally:
        connection.unregister(name)


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Run the block in one transaction."""
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def equal_captions(connection: Connection, batch: pa.Table) -> pa.Table:
    """Edges ``exact`` (equal unsafe prompts) and ``caption`` (another two captions are equal).

    Args:
        connection: the edge store; the batch's captions are added to it.
        batch: new rows.

    Returns:
        Edges between new rows and all rows with a smaller number, as :data:`EDGES`; ``value`` is 1.
    """
    numbers = _numbers(batch)
    sides = [[canonical(text) for text in batch[side].to_pylist()] for side in ("unsafe", "safe")]
    new = pa.table(
        {
            "number": np.concatenate([numbers, numbers]),
            "side": np.repeat(np.array([1, 0], dtype=np.uint8), len(numbers)),
            "caption": pa.array([*sides[0], *sides[1]], pa.string()),
        }
    )
    return _joined(
        connection,
        "captions",
        new,
        """select n.number as one, s.number as other,
                  if(bool_or(n.side = 1 and s.side = 1), 'exact', 'caption') as kind,
                  1.0::double as value
           from new n join captions s on s.caption = n.caption and s.number < n.number
           group by all""",
    )


def near_prompts(connection: Connection, batch: pa.Table, max_jaccard: float) -> pa.Table:
    """Edges ``prompt``: unsafe prompts whose Jaccard index is over the limit.

    Only prompts with a common MinHash band are compared.

    Args:
        connection: the edge store; the batch's bands are added to it.
        batch: new rows.
        max_jaccard: the largest index of two prompts that are not near, in [0, 1].

    Returns:
        Edges as :data:`EDGES`; ``value`` is the Jaccard index.
    """
    new = _keyed(batch, band_keys(batch["unsafe"].to_pylist(), max_jaccard))
    candidates = _joined(
        connection,
        "bands",
        new,
        """select distinct n.number as one, s.number as other from new n
           join bands s on s.place = n.place and s.key = n.key and s.number < n.number""",
    )
    with registered(connection, "candidates", candidates):
        found = connection.execute(
            """select one, other, a.unsafe, b.unsafe from candidates
               join rows a on a.number = one join rows b on b.number = other"""
        )
        edges: list[tuple[int, int, float]] = []
        while rows := found.fetchmany(_CANDIDATES_AT_ONCE):
            measured = ((i, j, jaccard(_shingles(a), _shingles(b))) for i, j, a, b in rows)
            edges += [edge for edge in measured if edge[2] > max_jaccard]
    return _edge_table(edges, "prompt")


def near_images(connection: Connection, batch: pa.Table, max_distance: int) -> pa.Table:
    """Edges ``image`` (both sides are near) and ``one_image`` (one is).

    ``one_image`` means that only the unsafe sides are near, or that the safe hashes are equal.

    Args:
        connection: the edge store; the batch's hash pieces are added to it.
        batch: new rows, all with perceptual hashes.
        max_distance: the largest Hamming distance of near images, in bits.

    Returns:
        Edges as :data:`EDGES`; ``value`` is a distance in bits: that of the further side for
        ``image``, that of the near side for ``one_image``.
    """
    unsafe, safe = (batch[f"{side}_phash"].to_numpy() for side in ("unsafe", "safe"))
    # The last piece is the full hash of the safe side.
    keys = np.concatenate([piece_keys(unsafe, max_distance), safe[:, None]], axis=1)
    return _joined(
        connection,
        "pieces",
        _keyed(batch, keys),
        f"""with candidates as (
                select distinct n.number as one, s.number as other from new n
                join pieces s on s.place = n.place and s.key = n.key and s.number < n.number
            ), measured as (
                select one, other, bit_count(xor(a.unsafe_phash, b.unsafe_phash)) as unsafe,
                       bit_count(xor(a.safe_phash, b.safe_phash)) as safe
                from candidates join rows a on a.number = one join rows b on b.number = other
            )
            select one, other,
                   if(greatest(unsafe, safe) <= {max_distance}, 'image', 'one_image') as kind,
                   case when greatest(unsafe, safe) <= {max_distance} then greatest(unsafe, safe)
                        when unsafe <= {max_distance} then unsafe else safe end::double as value
            from measured where unsafe <= {max_distance} or safe = 0""",
    )


def near_meanings(
    connection: Connection, batch: pa.Table, max_cosine: float, embedder: TextEmbedder
) -> pa.Table:
    """Edges ``semantic``: unsafe prompts with a cosine over the limit; exhaustive search.

    A blocked float32 product proposes candidates. Their cosines are computed in float64, pair by
    pair, and rounded, so they depend on neither blocks nor order.

    Args:
        connection: the edge store; the batch's vectors are added to it.
        batch: new rows.
        max_cosine: the largest cosine of two prompts that are not near, in [-1, 1].
        embedder: gives the vectors that are not stored yet.

    Returns:
        Edges as :data:`EDGES`; ``value`` is the cosine.
    """
    numbers = _numbers(batch)
    mine = _vectors(connection, batch, embedder)
    with registered(connection, "new", pa.table({"number": numbers})):
        connection.execute("insert into meanings from new")
    edges: list[tuple[int, int, float]] = []
    stored = connection.sql(
        f"select number, vector from vectors where number <= {numbers.max()} order by number"
    ).to_arrow_reader(_STORED_AT_ONCE)
    for block in stored:
        others = block.column("number").to_numpy()
        vectors = block.column("vector").flatten().to_numpy().reshape(len(others), -1)
        near = mine @ vectors.T > max_cosine - _MARGIN
        near &= others[None, :] < numbers[:, None]
        i, j = np.nonzero(near)
        exact = (mine[i].astype(np.float64) * vectors[j].astype(np.float64)).sum(axis=1)
        cosines = np.round(exact, _COSINE_DIGITS)
        over = cosines > max_cosine
        found = zip(numbers[i[over]], others[j[over]], cosines[over], strict=True)
        edges += [(int(one), int(other), float(cosine)) for one, other, cosine in found]
    return _edge_table(edges, "semantic")


def _vectors(connection: Connection, batch: pa.Table, embedder: TextEmbedder) -> Vectors:
    """The batch's vectors in order; missing ones are computed and stored."""
    with registered(connection, "new", batch.select(["number", "unsafe"])):
        absent = connection.sql(
            "from new where number not in (select number from vectors) order by number"
        ).to_arrow_table()
        if absent.num_rows:
            made = embedder.embed(absent["unsafe"].to_pylist()).astype(np.float32)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(made.ravel()), made.shape[1])
            columns = {"number": absent["number"], "vector": vectors}
            with registered(connection, "made", pa.table(columns)):
                connection.execute("insert into vectors from made")
        found = connection.sql(
            "select vector from vectors join new using (number) order by number"
        ).to_arrow_table()
    flat = found["vector"].combine_chunks().flatten().to_numpy()
    return flat.reshape(found.num_rows, -1)


def _joined(connection: Connection, table: str, new: pa.Table, query: str) -> pa.Table:
    """Add ``new`` to its table, then run the query."""
    with registered(connection, "new", new):
        connection.execute(f"insert into {table} from new")
        return connection.sql(query).to_arrow_table()


def _keyed(batch: pa.Table, keys: npt.NDArray[np.uint64]) -> pa.Table:
    """One row per key: row number, position of the key, key."""
    rows, places = keys.shape
    return pa.table(
        {
            "number": np.repeat(_numbers(batch), places),
            "place": np.tile(np.arange(places, dtype=np.uint16), rows),
            "key": keys.ravel(),
        }
    )


def _numbers(batch: pa.Table) -> npt.NDArray[np.int32]:
    return batch["number"].to_numpy()


def _edge_table(edges: list[tuple[int, int, float]], kind: str) -> pa.Table:
    columns: dict[str, Any] = {
        "one": [edge[0] for edge in edges],
        "other": [edge[1] for edge in edges],
        "kind": [kind] * len(edges),
        "value": [edge[2] for edge in edges],
    }
    return pa.table(columns, schema=EDGES)


@lru_cache(maxsize=50_000)
def _shingles(text: str) -> frozenset[str]:
    return shingles(text)
