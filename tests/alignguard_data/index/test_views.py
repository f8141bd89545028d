"""What people ask the index when a number surprises them; releases are views of it."""

import json

import polars as pl
import pyarrow.csv as pa_csv
import pytest

from alignguard_data.index import sql as index_query
from alignguard_data.pairs.config import FilterRules
from alignguard_data.pairs.room import FlagRule, filter_pairs
from alignguard_data.release.withdrawals import withdraw
from alignguard_data.scores.room import score_concept
from tests.alignguard_data.tiny_rooms import (
    RULES,
    InkScorer,
    TinyRooms,
    TinyWriter,
    WordScorer,
    good_reply,
)


def rows(rooms: TinyRooms, sql: str):
    columns, found = index_query.query(rooms.data, sql)
    return [dict(zip(columns, row, strict=True)) for row in found]


@pytest.fixture
def indexed(filled: TinyRooms) -> TinyRooms:
    return filled.fill_from("index")


@pytest.fixture
def released(filled: TinyRooms) -> TinyRooms:
    return filled.fill_from("index", "release")


def test_coverage_adds_up_for_every_concept(indexed):
    found = rows(indexed, "select * from coverage")
    assert [row["concept"] for row in found] == sorted(c.key for c in indexed.taxonomy.concepts)
    for row in found:
        assert row["pairs"] == row["evaluation"] + row["kept"] + row["dropped"] == 8
        assert row["kept_share"] == row["kept"] / (row["kept"] + row["dropped"])


def test_flag_rates_are_held_against_the_filters_own_thresholds(indexed):
    found = rows(indexed, "select distinct side, at_least, flagged from flag_rates order by side")
    assert found == [
        {"side": "safe", "at_least": 0.02, "flagged": 0.0},
        {"side": "unsafe", "at_least": 0.02, "flagged": 1.0},
    ]


def calibrated(at_least: float, version: str | None) -> FilterRules:
    rule = FlagRule(scorer="ink", key="share", at_least=at_least, version=version)
    return RULES.__class__(flags=(rule,), max_phash_distance=None)


def test_a_flag_rule_has_the_scorer_version_of_its_threshold(filled: TinyRooms):
    filter_pairs(filled.data, filled.taxonomy.concepts[0], calibrated(0.02, "1"))
    found = rows(filled.fill_from("index"), "select at_least, version from flag_rules")
    assert found == [{"at_least": 0.02, "version": None}, {"at_least": 0.02, "version": "1"}]


@pytest.fixture
def of_two_versions(filled: TinyRooms) -> TinyRooms:
    """Concepts whose scorers, and so whose calibrated thresholds, are of different versions."""
    for number, concept in enumerate(filled.taxonomy.concepts):
        version, at_least = ("1", 0.18) if number else ("2", 0.15)
        score_concept(filled.data, concept.key, [InkScorer(version=version)], [WordScorer()])
        filter_pairs(filled.data, concept, calibrated(at_least, version))
    return filled.fill_from("index")


def test_a_threshold_is_held_against_scores_of_its_own_version(of_two_versions: TinyRooms):
    first = of_two_versions.taxonomy.concepts[0].key
    found = rows(of_two_versions, "select concept, at_least, version from flag_rates")
    assert {(row["concept"] == first, row["at_least"], row["version"]) for row in found} == {
        (True, 0.15, "2"),
        (False, 0.18, "1"),
    }


def test_a_near_miss_is_of_a_threshold_of_its_scorers_version(of_two_versions: TinyRooms):
    """The bar is 0.1875: near 0.18, but the first concept's threshold is 0.15."""
    near = rows(of_two_versions, "select distinct concept, at_least from near_misses")
    _, *others = (concept.key for concept in of_two_versions.taxonomy.concepts)
    assert {(row["concept"], row["at_least"]) for row in near} == {(key, 0.18) for key in others}


@pytest.mark.parametrize(("at_least", "near"), [(0.18, True), (0.15, False)])
def test_a_near_miss_lies_within_a_tenth_of_its_threshold(tmp_path, at_least, near):
    """The bar is 48 of 256 pixels: 0.1875, which is 4 % over 0.18 and 25 % over 0.15."""
    rules = (FlagRule(scorer="ink", key="share", at_least=at_least),)
    rooms = TinyRooms(tmp_path, rules=RULES.__class__(flags=rules, max_phash_distance=None))
    found = rows(rooms.fill("index"), "select distinct side, over from near_misses")
    assert found == ([{"side": "unsafe", "over": 0.1875 - at_least}] if near else [])


def test_a_duplicate_names_the_pair_that_stayed(tmp_path):
    def twice(request):
        return good_reply(request, shift=-1).replace("a ", "one ", 1)

    rooms = TinyRooms(tmp_path, writer=TinyWriter(faults={3: twice}))
    rooms.rules = RULES.__class__(
        flags=RULES.flags, max_phash_distance=None, max_prompt_jaccard=0.5
    )
    found = rows(rooms.fill("index"), "select * from duplicates")
    kept = {row["pair_id"] for row in rows(rooms, "select pair_id from kept_pairs")}
    assert found
    assert {row["reason"] for row in found} == {"near_duplicate_prompt"}
    assert {row["duplicate_of"] for row in found} <= kept


def test_the_lineage_of_every_pair_ends_in_one_verdict(indexed):
    found = rows(indexed, "select verdict, count(*) as pairs from lineage group by all")
    counts = {row["verdict"]: row["pairs"] for row in found}
    assert sum(counts.values()) == 32
    assert counts["kept"] == rows(indexed, "select count(*) as n from kept_pairs")[0]["n"]
    evaluation = "select count(*) as n from prompt_pairs where role = 'evaluation'"
    assert counts["reserved for evaluation"] == rows(indexed, evaluation)[0]["n"]


def test_before_the_first_release_there_are_none(indexed):
    assert rows(indexed, "select * from release_pairs") == []
    assert rows(indexed, "select * from releases") == []


def test_drift_counts_what_a_withdrawal_removed(released):
    (pair,) = rows(released, "select pair_id, category from release_pairs order by all limit 1")
    withdraw(released.data, [pair["pair_id"]], "a placeholder reason")
    released.fill_from("release")
    versions = [row["release"] for row in rows(released, "select release from releases")]
    found = rows(released, f"select * from drift('{versions[0]}', '{versions[1]}')")
    before = rows(
        released,
        f"select category, count(*) as n from release_pairs where release = '{versions[0]}' "
        "group by all",
    )
    sizes = {row["category"]: row["n"] for row in before}
    for row in found:
        gone = int(row["category"] == pair["category"])
        assert (row["added"], row["removed"], row["changed"]) == (0, gone, 0)
        assert row["in_both"] == sizes[row["category"]] - gone


@pytest.mark.parametrize("kind", index_query.EXPORTS)
def test_a_query_can_be_written_to_a_file(indexed, tmp_path, kind):
    target = tmp_path / f"it's.{kind}"
    sql = "select pair_id, category from prompt_pairs order by pair_id;"
    assert index_query.export(indexed.data, sql, target) == 32
    wanted = rows(indexed, sql)
    if kind == "json":
        read = [json.loads(line) for line in target.read_text().splitlines()]
    elif kind == "csv":
        read = pa_csv.read_csv(target).to_pylist()
    else:
        read = pl.read_parquet(target).to_dicts()
    assert read == wanted


def test_a_query_that_fails_leaves_no_file(indexed, tmp_path):
    with pytest.raises(index_query.QueryFailed, match="nowhere"):
        index_query.export(indexed.data, "select * from nowhere", tmp_path / "x.csv")
    with pytest.raises(index_query.QueryFailed, match=r"one of \.csv, \.parquet, \.json"):
        index_query.export(indexed.data, "select 1", tmp_path / "x.xlsx")
    assert list(tmp_path.glob("*x.*")) == []
