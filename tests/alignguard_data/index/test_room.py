"""The index: every shard's rows, named views, read-only, rebuilt when something changed."""

import dataclasses

import duckdb
import pytest

from alignguard_data.contracts.errors import InputMissing, IntegrityError
from alignguard_data.index import room as index
from alignguard_data.index import sql as index_query
from alignguard_data.pairs.room import FlagRule, filter_pairs
from tests.alignguard_data.conftest import flip_a_byte
from tests.alignguard_data.tiny_rooms import RULES, TinyRooms


def rows(rooms: TinyRooms, sql: str):
    return index_query.query(rooms.data, sql)[1]


def test_the_tables_hold_every_row_of_every_shard(filled):
    made = index.build_index(filled.data, filled.taxonomy)
    assert rows(filled, "select count(*) from concepts") == [(4,)]
    assert rows(filled, "select count(*) from prompt_pairs") == [(32,)]
    (train,) = rows(filled, "select count(*) from prompt_pairs where role = 'train'")[0]
    assert rows(filled, "select count(*) from images") == [(2 * train,)]
    # One number an image and one a pair.
    assert rows(filled, "select count(*) from scores") == [(3 * train,)]
    assert made.counts["tables"]["scores"] == 3 * train
    joined = "select count(*) from kept_pairs join images on image_id = chosen_image_id"
    assert rows(filled, joined) == rows(filled, "select count(*) from kept_pairs")


def test_images_stay_in_their_shards(filled):
    index.build_index(filled.data, filled.taxonomy)
    columns, _ = index_query.query(filled.data, "select * from images limit 1")
    assert "image" not in columns
    assert "image_id" in columns


def test_the_funnel_sums_to_the_requests(filled):
    index.build_index(filled.data, filled.taxonomy)
    totals = dict(
        ((stage, reason), n)
        for stage, reason, n in rows(filled, "select stage, reason, rows from funnel_totals")
    )
    assert totals["prompts", "kept"] == 32
    assert totals["roles", "kept"] + totals["roles", "evaluation"] == 32
    assert totals["images", "kept"] == 2 * totals["roles", "kept"]


def test_views_answer(filled):
    index.build_index(filled.data, filled.taxonomy)
    columns, found = index_query.query(
        filled.data, "select * from ip_by_scorer where side = 'unsafe' and concept = 'lines.bar'"
    )
    row = dict(zip(columns, found[0], strict=True))
    assert (row["scorer"], row["key"], row["mean"]) == ("ink", "share", 48 / 256)
    assert rows(filled, "select bool_and(kept) from pair_scores where scorer = 'ink'") == [(True,)]


def test_the_index_is_read_only(filled):
    index.build_index(filled.data, filled.taxonomy)
    with pytest.raises(index_query.QueryFailed, match="read-only"):
        index_query.query(filled.data, "delete from concepts")
    with index_query.connect(filled.data) as connection, pytest.raises(duckdb.Error):
        connection.execute("create table t (a int)")


def test_a_wrong_query_says_what_is_wrong(filled):
    index.build_index(filled.data, filled.taxonomy)
    with pytest.raises(index_query.QueryFailed, match="nowhere"):
        index_query.query(filled.data, "select * from nowhere")


def test_it_is_rebuilt_when_a_room_changed_and_only_then(filled):
    first = index.build_index(filled.data, filled.taxonomy)
    assert index.build_index(filled.data, filled.taxonomy).fingerprint == first.fingerprint
    concept = filled.taxonomy.concepts[0]
    none = dataclasses.replace(
        RULES, flags=(FlagRule(scorer="ink", key="share", at_least=2),), min_kept=0
    )
    filter_pairs(filled.data, concept, none)
    assert index.spec(filled.data, filled.taxonomy).state() == "stale"
    index.build_index(filled.data, filled.taxonomy)
    kept = f"select count(*) from kept_pairs where concept = '{concept.key}'"
    assert rows(filled, kept) == [(0,)]


def test_a_reader_keeps_the_old_index_while_a_new_one_is_built(filled):
    index.build_index(filled.data, filled.taxonomy)
    with index_query.connect(filled.data) as reader:
        none = dataclasses.replace(
            RULES, flags=(FlagRule(scorer="ink", key="share", at_least=2),), min_kept=0
        )
        filter_pairs(filled.data, filled.taxonomy.concepts[0], none)
        index.build_index(filled.data, filled.taxonomy)
        old = reader.execute("select count(*) from kept_pairs").fetchall()
    assert old > rows(filled, "select count(*) from kept_pairs")


def test_a_flipped_byte_is_found_by_name(filled):
    concept = filled.taxonomy.concepts[1].key
    (shard,) = filled.data.partition("scores", concept).glob("*/scores.parquet")
    flip_a_byte(shard)
    with pytest.raises(IntegrityError, match=str(shard)):
        index.build_index(filled.data, filled.taxonomy)


def test_an_incomplete_room_is_named(rooms):
    rooms.fill("scores")
    with pytest.raises(InputMissing, match=r"pairs/lines\.bar"):
        index.build_index(rooms.data, rooms.taxonomy)
    with pytest.raises(InputMissing, match="index"):
        index_query.connect(rooms.data)
