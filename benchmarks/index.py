"""The index at 10^4, 10^5 and (with ``ALIGNGUARD_BENCH_PAIRS``) 10^6 pairs, drawn by ``synthetic``.

Seconds of a full build, of a build after 1 % of the concepts changed, and of five queries, compared
with the same SQL over the Parquet shards and with pandas.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from alignguard_data.audit.funnel import FunnelRow, concept_manifests, funnel
from alignguard_data.contracts.records import to_table
from alignguard_data.index.room import build_index
from alignguard_data.index.sql import connect
from alignguard_data.index.tables import SHARD_TABLES
from alignguard_data.index.views import VIEWS
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.writes import remove_tree
from alignguard_data.taxonomy.parse import Taxonomy
from benchmarks import synthetic
from benchmarks.index_pandas import PANDAS, Shards
from benchmarks.peak import peak_bytes

CONCEPTS = 700
PAIRS = (10_000, 100_000)
PAIRS_VARIABLE = "ALIGNGUARD_BENCH_PAIRS"
CHANGED_SHARE = 0.01

QUERIES = {
    "funnel": "select reason, count(*) from dropped_pairs group by all order by all",
    "coverage": "select concept, pairs, evaluation, kept, dropped from coverage order by all",
    "flag_rates": """
        select concept, side, scorer, images, flagged from flag_rates
        where category = 'c3' order by all""",
    "lineage": "select pair_id, verdict, unsafe_image_id, reason from lineage where pair_id = ?",
    "near_misses": """
        select count(*), round(sum(value), 3) from near_misses where concept like 'c3.%'""",
}


def measure(runs: int, sizes: Sequence[int] | None = None) -> dict[str, float]:
    """Figures by number of pairs; medians over ``runs``."""
    asked = os.environ.get(PAIRS_VARIABLE)
    found: dict[str, float] = {}
    for pairs in sizes or ([int(float(asked))] if asked else PAIRS):
        found |= {f"{name}_at_{pairs}": value for name, value in measure_size(pairs, runs).items()}
    return found


def measure_size(pairs: int, runs: int, concepts: int = CONCEPTS) -> dict[str, float]:
    """Build seconds and rate, the incremental share, and each query's seconds and ratios.

    Raises:
        AssertionError: a build is wrong, or two ways answer differently.
    """
    with tempfile.TemporaryDirectory() as folder:
        data, taxonomy = synthetic.build(Path(folder), pairs=pairs, concepts=concepts)
        built = [_full_seconds(data, taxonomy) for _ in range(runs)]
        full = statistics.median(seconds for seconds, _ in built)
        small = statistics.median(
            _incremental_seconds(data, taxonomy, pairs // concepts, run) for run in range(runs)
        )
        return {
            "rows": float(built[0][1]),
            "full_seconds": full,
            "rows_a_second": built[0][1] / full,
            "incremental_seconds": small,
            "incremental_share": small / full,
            "build_peak_megabytes": peak_bytes() / 1e6,
            **_queries(data, taxonomy, runs),
        }


def _full_seconds(data: DataRoot, taxonomy: Taxonomy) -> tuple[float, int]:
    remove_tree(data.partition("index"))
    started = time.perf_counter()
    made = build_index(data, taxonomy)
    return time.perf_counter() - started, made.counts["inserted_rows"]


def _incremental_seconds(data: DataRoot, taxonomy: Taxonomy, rows: int, run: int) -> float:
    changed = max(1, round(CHANGED_SHARE * len(taxonomy.concepts)))
    for concept in taxonomy.concepts[:changed]:
        synthetic.make_concept(data, concept, rows, generation=run + 1)
    started = time.perf_counter()
    made = build_index(data, taxonomy)
    seconds = time.perf_counter() - started
    assert made.counts["build"] == "incremental", made.counts["build"]
    return seconds


def _queries(data: DataRoot, taxonomy: Taxonomy, runs: int) -> dict[str, float]:
    found: dict[str, float] = {}
    shards = Shards(data, taxonomy)
    with connect(data) as indexed, _over_parquet(data, taxonomy) as direct:
        pair = indexed.execute("select min(pair_id) from kept_pairs").fetchall()[0][0]
        for name, sql in QUERIES.items():
            values = [pair] if "?" in sql else []
            ours, answer = _timed(lambda s=sql, v=values: indexed.execute(s, v).fetchall(), runs)
            scan, other = _timed(lambda s=sql, v=values: direct.execute(s, v).fetchall(), 1)
            frame, third = _timed(lambda n=name: PANDAS[n](shards, pair), 1)
            assert answer == other, (name, answer[:3], other[:3])
            assert len(third) == len(answer), (name, len(third), len(answer))
            found[f"{name}_ms"] = 1000 * ours
            found[f"{name}_ratio_to_parquet"] = scan / ours
            found[f"{name}_ratio_to_pandas"] = frame / ours
    return found


def _timed(ask: Callable[[], list[Any]], runs: int) -> tuple[float, list[Any]]:
    seconds, answer = [], []
    for _ in range(runs):
        started = time.perf_counter()
        answer = ask()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), answer


def _over_parquet(data: DataRoot, taxonomy: Taxonomy) -> duckdb.DuckDBPyConnection:
    """The same tables and views directly over the shards."""
    connection = duckdb.connect()
    found = concept_manifests(data, taxonomy)
    for table in SHARD_TABLES:
        files = [
            str(data.partition(room, key) / manifest.file(table.shard).name)
            for (room, key), manifest in found.items()
            if room == table.room
        ]
        columns = ", ".join(f'"{name}"' for name in table.schema.names)
        place = ", ".join(f"'{file}'" for file in files)
        connection.execute(
            f'create view "{table.name}" as select {columns} from read_parquet([{place}])'
        )
    with connect(data) as indexed:
        for name in ("concepts", "flag_rules"):
            connection.register(name, indexed.sql(f"from {name}").to_arrow_table())
    connection.register("funnel", to_table(FunnelRow, funnel(taxonomy, found)))
    for name, body in VIEWS.items():
        connection.execute(f'create view "{name}" as {body}')
    return connection
