"""Each column has one description, which the UI, the card, Croissant and the docs show."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts.column_meanings import meanings
from alignguard_data.contracts.records import schema_of
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.importing.coprov2.room import TABLES as IMPORTED
from alignguard_data.index.columns import COLUMNS, IN_ONE_VIEW
from alignguard_data.index.columns import meaning as indexed
from alignguard_data.index.sql import connect
from alignguard_data.release.columns import meaning
from alignguard_data.release.folders import latest_release
from alignguard_data.release.rows import EVALUATION_SCHEMA, release_schema
from alignguard_data.storage import manifest as manifests
from alignguard_train.evaluation.room import TABLES as EVALUATED
from pipelines.columns_page import SCHEMAS, page
from pipelines.tables import MEANINGS
from pipelines.ui.columns import file_columns, first_data_file, release_columns, room_columns
from tests.alignguard_data.tiny_rooms import TinyRooms

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "columns.md"
RECORDS = [
    record
    for shards in (*SHARD_RECORDS.values(), IMPORTED, EVALUATED)
    for record in shards.values()
]


def unexplained(profile: Path) -> list[str]:
    """Columns of a profile's Parquet files that have no meaning."""
    missing = []
    for file in sorted(profile.rglob("*.parquet")):
        room, table = file.relative_to(profile).parts[0], file.stem
        known = None if room == "releases" else MEANINGS[room].get(table, {})
        explained = meaning if known is None else known.get
        columns = [column for column in pq.read_schema(file).names if not explained(column)]
        missing += [f"{file.relative_to(profile)}: {column}" for column in columns]
    return missing


def index_columns(rooms: TinyRooms) -> set[tuple[str, str]]:
    """Every table, view and table macro of the index with its columns."""
    with connect(rooms.data) as connection:
        found = connection.execute(
            "select table_name, column_name from duckdb_columns() where not internal "
            "and table_name not like 'release_pairs_%'"
        ).fetchall()
        drift = connection.execute("describe from drift('v0.1.0', 'v0.1.0')").fetchall()
    return {*found, *(("drift", column[0]) for column in drift)}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> TinyRooms:
    rooms = TinyRooms(root=tmp_path_factory.mktemp("columns"))
    rooms.fill("release")
    return rooms


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_column_of_a_record_has_a_meaning_and_nothing_else_has(record: type):
    assert list(meanings(record)) == schema_of(record).names


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_a_meaning_is_no_part_of_the_schema(record: type):
    schema = schema_of(record)
    assert schema.metadata is None
    assert all(field.metadata is None for field in schema)


@pytest.mark.parametrize("schema", [release_schema(["score_a_b_0"]), EVALUATION_SCHEMA])
def test_every_column_of_a_release_has_a_meaning(schema: pa.Schema):
    assert all(meaning(name) for name in schema.names)


@pytest.mark.parametrize("room", SHARD_RECORDS)
def test_dagster_shows_a_rooms_meanings(room: str):
    shown = room_columns("tiny", room)["dagster/column_schema"].value.columns
    record = next(iter(SHARD_RECORDS[room].values()))
    assert {column.name: column.description for column in shown} == meanings(record)


def test_dagster_card_and_croissant_show_a_releases_meanings(released):
    folder = latest_release(released.data)
    shown = release_columns("tiny", first_data_file(folder))["dagster/column_schema"].value.columns
    card = (folder / "README.md").read_text()
    croissant = json.loads((folder / "croissant.json").read_text())
    fields = {
        field["name"]: field["description"]
        for records in croissant["recordSet"]
        for field in records["field"]
    }
    assert any(column.name.startswith("score_") for column in shown)
    for column in shown:
        assert column.description == meaning(column.name) == fields[column.name]
        assert f"| `{column.name}` | {meaning(column.name)} |" in card


def test_no_table_that_the_dataset_rooms_write_has_a_column_without_a_meaning(released):
    profile = Path(str(released.data.base))
    rooms = {file.relative_to(profile).parts[0] for file in profile.rglob("*.parquet")}
    assert rooms >= {*SHARD_RECORDS, "index", "release", "releases"}
    assert not unexplained(profile)


def test_a_column_without_a_meaning_is_seen(tmp_path):
    (tmp_path / "merge" / "all").mkdir(parents=True)
    table = pa.table({"layer": ["a"], "new": [1]})
    pq.write_table(table, tmp_path / "merge" / "all" / "winners.parquet")
    assert unexplained(tmp_path) == ["merge/all/winners.parquet: new"]


@pytest.mark.parametrize("place", SCHEMAS, ids=": ".join)
def test_every_column_of_a_table_that_is_no_record_has_a_meaning(place: tuple[str, str]):
    room, table = place
    assert set(MEANINGS[room][table]) == set(SCHEMAS[place].names)


def test_the_page_has_every_table():
    assert {(room, table) for room, tables in MEANINGS.items() for table in tables} == {
        *SCHEMAS,
        *((room, table) for room, tables in SHARD_RECORDS.items() for table in tables),
        *(("importing", table) for table in IMPORTED),
    }


def test_every_column_of_the_index_has_a_meaning_and_nothing_else_has(released):
    found = index_columns(released)
    assert {"coverage", "lineage_to_adapters", "release_pairs"} <= {view for view, _ in found}
    assert all(indexed(*place) for place in found)
    assert {column for _, column in found} >= set(COLUMNS)
    assert found >= set(IN_ONE_VIEW)


def test_dagster_shows_each_table_of_a_room_that_has_several(released):
    manifest = manifests.require(released.data.partition("release"))
    shown = file_columns(manifest, released.data.partition("release"))
    assert list(shown) == ["dagster/column_schema", "columns of files"]
    for entry, table in zip(shown.values(), ("pairs", "files"), strict=True):
        described = {column.name: column.description for column in entry.value.columns}
        assert described == MEANINGS["release"][table]


def test_the_docs_page_is_what_the_code_says():
    written = "python -m pipelines.columns_page > docs/reference/columns.md"
    assert PAGE.read_text(encoding="utf-8") == page(), written
