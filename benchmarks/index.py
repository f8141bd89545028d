"""Index build: rows a second against inserting the same rows one statement at a time."""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import duckdb

from alignguard_data.index import build_index, connect
from alignguard_data.paths import DataRoot
from alignguard_data.taxonomy import Taxonomy
from benchmarks.dataset import build

ROWS_ONE_BY_ONE = 500


def measure(runs: int) -> dict[str, float]:
    """Medians over ``runs`` of building the whole index, and of the obvious loop on some rows."""
    with tempfile.TemporaryDirectory() as folder:
        data, taxonomy = build(Path(folder), pairs_per_concept=60, size=32)
        seconds = [_build_seconds(data, taxonomy) for _ in range(runs)]
        with connect(data) as connection:
            rows = _rows(connection)
            scores = connection.execute(f"SELECT * FROM scores LIMIT {ROWS_ONE_BY_ONE}").fetchall()
        loop = [_loop_seconds(scores) for _ in range(runs)]
    ours = rows / statistics.median(seconds)
    theirs = len(scores) / statistics.median(loop)
    return {
        "rows": float(rows),
        "rows_a_second": ours,
        "rows_a_second_one_by_one": theirs,
        "ratio": ours / theirs,
    }


def _build_seconds(data: DataRoot, taxonomy: Taxonomy) -> float:
    shutil.rmtree(data.partition("index"), ignore_errors=True)
    started = time.perf_counter()
    build_index(data, taxonomy)
    return time.perf_counter() - started


def _rows(connection: duckdb.DuckDBPyConnection) -> int:
    tables = connection.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
    ).fetchall()
    counts = [connection.execute(f'SELECT count(*) FROM "{name}"').fetchall() for (name,) in tables]
    return sum(int(count[0][0]) for count in counts)


def _loop_seconds(rows: list[tuple[object, ...]]) -> float:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(f"{folder}/loop.duckdb") as loop:
        columns = ", ".join(
            f"c{i} {'DOUBLE' if isinstance(value, float) else 'VARCHAR'}"
            for i, value in enumerate(rows[0])
        )
        loop.execute(f"CREATE TABLE scores ({columns})")
        marks = ", ".join("?" * len(rows[0]))
        started = time.perf_counter()
        for row in rows:
            loop.execute(f"INSERT INTO scores VALUES ({marks})", row)
        return time.perf_counter() - started
