"""docs/reference/columns.md: every table's columns with type and meaning, read off the code.

``python -m pipelines.columns_page > docs/reference/columns.md`` writes it again.
"""

import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa

from alignguard_data.contracts.column_meanings import meanings
from alignguard_data.contracts.records import schema_of
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.importing.coprov2.room import TABLES as IMPORTED
from alignguard_data.release.columns import COLUMNS, EVALUATION_COLUMNS
from alignguard_train.evaluation.room import TABLES as EVALUATED

Row = tuple[str, str, str]
"""A column's name, type and meaning."""


def page() -> str:
    """The whole page, ending in a line break."""
    return "\n".join([*_intro(), *(line for table in _tables() for line in table)]) + "\n"


def _intro() -> Iterator[str]:
    yield "# Columns"
    yield ""
    yield "Every table of records that the rooms write; no value is ever null. A record is a"
    yield "dataclass of the same name in the room's `records`, or in `alignguard_data.contracts`"
    yield "where several rooms read it. `python -m pipelines.columns_page` writes this page."


def _tables() -> Iterator[list[str]]:
    rooms = {**SHARD_RECORDS, "importing": IMPORTED}
    for room, shards in rooms.items():
        for shard, record in shards.items():
            yield _table(f"{room}: {shard}", record.__name__, _record_rows(record))
    score = [
        (
            "score_*",
            "double",
            "Raw score; _0: of the safe image, _1: of the unsafe, else of the pair",
        )
    ]
    release = [(column.name, str(column.type), column.meaning) for column in COLUMNS]
    yield _table("release: data", "One column a score at the end", [*release, *score])
    prompts = [(column.name, str(column.type), column.meaning) for column in EVALUATION_COLUMNS]
    yield _table(
        "release: prompts/evaluation", "Prompts that were never rendered for training", prompts
    )
    for shard, record in EVALUATED.items():
        yield _table(f"evaluation: {shard}", record.__name__, _record_rows(record))


def _record_rows(record: type) -> Iterator[Row]:
    known = meanings(record)
    schema: pa.Schema = schema_of(record)
    for field in schema:
        yield field.name, str(field.type), known[field.name]


def _table(title: str, subtitle: str, rows: Iterable[Row]) -> list[str]:
    head = ["", f"## {title}", "", f"{subtitle}.", ""]
    lines = [f"| `{name}` | {kind} | {said.replace('|', '/')} |" for name, kind, said in rows]
    return [*head, "| column | type | meaning |", "|---|---|---|", *lines]


if __name__ == "__main__":
    sys.stdout.write(page())
