"""Each column has one description, which the UI, the card, Croissant and the docs show."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from alignguard_data.contracts.column_meanings import meanings
from alignguard_data.contracts.records import schema_of
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.importing.coprov2.room import TABLES as IMPORTED
from alignguard_data.release.columns import meaning
from alignguard_data.release.folders import latest_release
from alignguard_data.release.rows import EVALUATION_SCHEMA, release_schema
from alignguard_train.evaluation.room import TABLES as EVALUATED
from pipelines.columns_page import page
from pipelines.ui.columns import first_data_file, release_columns, room_columns
from tests.alignguard_data.tiny_rooms import TinyRooms

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "columns.md"
RECORDS = [
    record
    for shards in (*SHARD_RECORDS.values(), IMPORTED, EVALUATED)
    for record in shards.values()
]


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


def test_the_docs_page_is_what_the_code_says():
    written = "python -m pipelines.columns_page > docs/reference/columns.md"
    assert PAGE.read_text(encoding="utf-8") == page(), written
