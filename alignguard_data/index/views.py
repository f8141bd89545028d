"""Named views: those in the index file, and temporary ones over releases and adapters.

Near misses, duplicates, coverage and lineage explain surprising numbers.
"""

from collections.abc import Iterator
from dataclasses import asdict

import duckdb
import pyarrow as pa

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.index.adapters import ADAPTER_SCHEMA, list_adapters
from alignguard_data.release.folders import list_releases
from alignguard_data.storage.parquet_files import dataset
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, list_folder

NEAR = 0.1
"""A near miss is within this share of its threshold."""

RULE_OF_SCORE = """
    r.scorer = s.scorer and r.key = s.key and (r.version is null or r.version = s.scorer_version)"""
"""Condition of a join of ``flag_rules`` r to ``scores`` s."""

VIEWS = {
    "ip_by_scorer": """
        select concept, side, scorer, key, count(*) as images, avg(value) as mean,
               avg((value >= 0.5)::int) as share_at_half,
               avg((value >= 0.9)::int) as share_at_nine_tenths
        from scores where subject = 'image' group by all order by all""",
    "funnel_totals": """
        select stage, reason, sum("rows")::bigint as "rows"
        from funnel group by all order by all""",
    "pair_scores": """
        select p.pair_id, p.concept, p.category, s.side, s.scorer, s.key, s.value,
               k.pair_id is not null as kept, d.reason
        from prompt_pairs p join scores s using (pair_id)
        left join kept_pairs k using (pair_id) left join dropped_pairs d using (pair_id)""",
    "image_pairs": """
        select u.pair_id, u.concept, u.prompt as unsafe_prompt, s.prompt as safe_prompt,
               u.image_id as unsafe_image_id, s.image_id as safe_image_id, u.seed,
               u.base_model, u.base_revision
        from images u join images s on u.pair_id = s.pair_id
        where u.side = 'unsafe' and s.side = 'safe'""",
    "preference_pairs": """
        select k.*, c.split from kept_pairs k join concepts c on c.key = k.concept""",
    "coverage": """
        with written as (
            select concept, count(*) as pairs,
                   count(*) filter (role = 'evaluation') as evaluation
            from prompt_pairs group by concept),
        verdicts as (
            select concept, sum(kept)::bigint as kept, sum(dropped)::bigint as dropped
            from (select concept, count(*) as kept, 0 as dropped from kept_pairs group by concept
                  union all
                  select concept, 0, count(*) from dropped_pairs group by concept)
            group by concept)
        select c.key as concept, c.category, c.split,
               coalesce(w.pairs, 0) as pairs, coalesce(w.evaluation, 0) as evaluation,
               coalesce(v.kept, 0) as kept, coalesce(v.dropped, 0) as dropped,
               v.kept / nullif(v.kept + v.dropped, 0) as kept_share
        from concepts c left join written w on w.concept = c.key
        left join verdicts v on v.concept = c.key
        order by all""",
    "flag_rates": f"""
        select s.concept, c.category, s.side, s.scorer, s.key, r.at_least, r.version,
               count(*) as images, avg((s.value >= r.at_least)::int) as flagged
        from scores s join flag_rules r on {RULE_OF_SCORE}
        join concepts c on c.key = s.concept
        where s.subject = 'image' group by all order by all""",
    "near_misses": f"""
        select s.pair_id, s.concept, s.side, s.scorer, s.key, s.value, r.at_least,
               s.value - r.at_least as over, d.reason
        from scores s join flag_rules r on {RULE_OF_SCORE}
        left join dropped_pairs d on d.pair_id = s.pair_id
        where s.subject = 'image' and abs(s.value - r.at_least) <= {NEAR} * abs(r.at_least)
        order by abs(s.value - r.at_least), s.pair_id, s.side""",
    "duplicates": """
        select pair_id, concept, category, reason,
               regexp_extract(detail, 'of ([0-9a-f]+)', 1) as duplicate_of, detail
        from dropped_pairs where reason like 'near_duplicate%' order by all""",
    "lineage": """
        select p.pair_id, p.concept, p.category, c.split, p.role, p.writer,
               p.unsafe_prompt, p.safe_prompt, i.unsafe_image_id, i.safe_image_id,
               i.base_model, i.base_revision,
               case when p.role = 'evaluation' then 'reserved for evaluation'
                    when k.pair_id is not null then 'kept'
                    when d.pair_id is not null then 'dropped'
                    else 'not rendered' end as verdict,
               d.reason, d.detail
        from prompt_pairs p join concepts c on c.key = p.concept
        left join image_pairs i on i.pair_id = p.pair_id
        left join kept_pairs k on k.pair_id = p.pair_id
        left join dropped_pairs d on d.pair_id = p.pair_id""",
}
"""In order of creation: a view may read those above it."""

_PAIR_COLUMNS = ("pair_id", "concept", "category", "caption", "sha256_0", "sha256_1")
_RELEASE_PAIRS = pa.schema(
    [("release", pa.string()), ("split", pa.string()), *((c, pa.string()) for c in _PAIR_COLUMNS)]
)

_DRIFT = """
    create temp macro drift(older, newer) as table
    with a as (select * from release_pairs where release = older),
         b as (select * from release_pairs where release = newer)
    select coalesce(b.category, a.category) as category,
           count(*) filter (a.pair_id is null) as added,
           count(*) filter (b.pair_id is null) as removed,
           count(*) filter (a.sha256_0 <> b.sha256_0 or a.sha256_1 <> b.sha256_1) as changed,
           count(*) filter (a.pair_id is not null and b.pair_id is not null) as in_both
    from a full join b on a.pair_id = b.pair_id group by all order by all"""

_PAIR_ADAPTERS = """
    create temp view pair_adapters as
    select p.pair_id, p.release, a.adapter, a.room, a.partition, a.sha256
    from release_pairs p join adapters a
      on a.release = p.release and list_contains(a.categories, p.category)
    where p.split = 'train'"""

_LINEAGE_TO_ADAPTERS = """
    create temp view lineage_to_adapters as
    select l.*, coalesce(r.releases, []) as releases, coalesce(a.adapters, []) as adapters
    from lineage l
    left join (select pair_id, list(release order by release) as releases
               from release_pairs group by pair_id) r on r.pair_id = l.pair_id
    left join (select pair_id, list(distinct adapter order by adapter) as adapters
               from pair_adapters group by pair_id) a on a.pair_id = l.pair_id"""


def attach_releases(connection: duckdb.DuckDBPyConnection, data: DataRoot) -> None:
    """Add ``releases``, ``release_pairs`` and the macro ``drift`` to an open index.

    They exist only for this connection. ``drift(older, newer)`` is a table macro. Releases are made
    after the index, so its file does not contain them; queries scan their shards.

    Args:
        connection: an open index.
        data: the data folder, whose releases are added.

    Raises:
        IntegrityError: a shard of a release cannot be read.
    """
    folders = list_releases(data)
    connection.register(
        "releases",
        pa.table(
            {
                "release": pa.array([_version(folder) for folder in folders], pa.string()),
                "folder": pa.array([str(folder) for folder in folders], pa.string()),
            }
        ),
    )
    connection.register("release_pairs_none", _RELEASE_PAIRS.empty_table())
    parts = ["select * from release_pairs_none"]
    for number, (folder, split, files) in enumerate(_shards(folders)):
        name = f"release_pairs_{number}"
        try:
            connection.register(name, dataset(files))
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(
                f"{folder} is damaged: {' '.join(str(error).split())}; `alignguard release verify` "
                "names every damaged file"
            ) from error
        columns = ", ".join(_PAIR_COLUMNS)
        parts.append(f"select '{_version(folder)}', '{split}', {columns} from {name}")
    connection.execute(f"create temp view release_pairs as {' union all '.join(parts)}")
    connection.execute(_DRIFT)


def attach_adapters(connection: duckdb.DuckDBPyConnection, data: DataRoot) -> None:
    """Add the views of adapters to an open index that has its releases.

    They are ``adapters``, ``pair_adapters`` (which adapters were trained on a released pair) and
    ``lineage_to_adapters``, for this connection only.
    """
    table = pa.Table.from_pylist([asdict(a) for a in list_adapters(data)], ADAPTER_SCHEMA)
    connection.register("adapters", table)
    connection.execute(_PAIR_ADAPTERS)
    connection.execute(_LINEAGE_TO_ADAPTERS)


def _version(folder: Place) -> str:
    return "v" + folder.name.rsplit("-v", 1)[1]


def _shards(folders: list[Place]) -> Iterator[tuple[Place, str, list[Place]]]:
    for folder in folders:
        for split in ("train", "test"):
            files = list_folder(folder / "data", f"{split}-*.parquet")
            if files:
                yield folder, split, files
