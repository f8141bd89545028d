"""What a query can do: read the index and the releases, and nothing else of the machine."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from alignguard_data.index import sql as index_query
from alignguard_data.index.sql import QueryFailed
from tests.alignguard_data.tiny_rooms import TinyRooms


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> TinyRooms:
    return TinyRooms(tmp_path_factory.mktemp("filled")).fill("release")


@pytest.mark.parametrize(
    "sql",
    [
        "copy concepts to '{folder}/out.csv'",
        "copy (select 1) to '{folder}/out.parquet' (format parquet)",
        "export database '{folder}/out'",
        "select * from read_csv('{folder}/secret.csv')",
        "select * from read_text('{folder}/secret.csv')",
        "select * from '{folder}/secret.csv'",
        "select * from glob('{folder}/*')",
        "attach '{folder}/other.duckdb' as other",
        "install httpfs",
        "load httpfs",
        "select * from read_parquet('https://example.org/x.parquet')",
        "set enable_external_access = true",
        "set allowed_paths = ['{folder}/secret.csv']",
        "set lock_configuration = false",
        "reset lock_configuration",
        "select 1; copy concepts to '{folder}/out.csv'",
        "create table mine as select 1",
        "delete from concepts",
    ],
)
def test_a_query_reaches_nothing_beside_the_index(sql, filled, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(QueryFailed):
        index_query.query(filled.data, sql.format(folder=tmp_path))
    with pytest.raises(QueryFailed):
        index_query.export(filled.data, sql.format(folder=tmp_path), tmp_path / "rows.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_an_export_writes_only_its_own_file(filled, tmp_path):
    escape = f"select 1) to '{tmp_path}/elsewhere.csv' (format csv); --"
    with pytest.raises(QueryFailed):
        index_query.export(filled.data, escape, tmp_path / "rows.csv")
    assert list(tmp_path.iterdir()) == []


def test_releases_can_still_be_read(filled):
    counted = index_query.query(filled.data, "select count(*) from release_pairs")[1][0][0]
    assert counted == sum(
        pq.read_metadata(path).num_rows
        for path in filled.data.releases.glob("*/data/*.parquet")  # type: ignore[union-attr]
        if path.name.startswith(("train", "test"))
    )
    assert counted > 0


def test_what_was_refused_says_how_rows_get_out(filled):
    with pytest.raises(QueryFailed, match="--out"):
        index_query.query(filled.data, "copy concepts to 'x.csv'")


@pytest.mark.parametrize("sql", ["", "  \n", ";", "-- only a comment", "/* nothing */ ;;"])
def test_an_empty_query_is_refused_in_words(sql, filled, tmp_path):
    with pytest.raises(QueryFailed, match="empty"):
        index_query.query(filled.data, sql)
    with pytest.raises(QueryFailed, match="empty"):
        index_query.export(filled.data, sql, tmp_path / "x.csv")


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
@pytest.mark.parametrize("end", ["", ";", " -- comment", "; -- comment", " /* c */ ; ;", "\n--x\n"])
def test_a_query_may_end_in_comments_and_semicolons(end, ending, filled, tmp_path):
    sql = f"select 'é;--' as it, key from concepts{end}"
    columns, rows = index_query.query(filled.data, sql)
    assert columns == ["it", "key"]
    assert len(rows) == 4
    assert rows[0][0] == "é;--"
    assert index_query.export(filled.data, sql, tmp_path / f"x.{ending}") == 4


@pytest.mark.parametrize("name", ["it's.csv", "two words.csv", "ü.csv", "a%41#.csv"])
def test_an_export_takes_any_name(name, filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert index_query.export(filled.data, "select key from concepts", Path(name)) == 4
    with (tmp_path / name).open(newline="") as file:
        assert len(list(csv.reader(file))) == 5
