"""docs/reference/columns.md: every table's columns with type and meaning, read off the code.

``python -m pipelines.columns_page > docs/reference/columns.md`` writes it again.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from alignguard_data.audit.funnel import FunnelRow
from alignguard_data.contracts.column_meanings import meanings
from alignguard_data.contracts.records import schema_of
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.images.records import EditedPair
from alignguard_data.importing.coprov2.room import TABLES as IMPORTED
from alignguard_data.index.columns import COLUMNS, IN_ONE_VIEW
from alignguard_data.release.columns import COLUMNS as RELEASED
from alignguard_data.release.columns import EVALUATION_COLUMNS, POINTER
from alignguard_train.cost_model.records import PairCost
from alignguard_train.encodings.room import ROWS
from alignguard_train.evaluation.contenders import COSTS_SCHEMA
from alignguard_train.evaluation.distributions import DISTRIBUTIONS_SCHEMA
from alignguard_train.evaluation.guarded import NUMBERS as BEHIND_GUARDS
from alignguard_train.evaluation.guarded import TIMES_SCHEMA
from alignguard_train.evaluation.records import (
    EvaluatedImage,
    GuardedImage,
    GuardedMeasure,
    RejectedPrompt,
    SeededImage,
)
from alignguard_train.evaluation.shards import NUMBERS
from alignguard_train.evaluation.statistics import METRICS_SCHEMA, PAIRED_SCHEMA
from alignguard_train.experts.trainer import HISTORY
from alignguard_train.guards.records import GuardMeasure, GuardScore
from alignguard_train.hardening.records import HardenedExpert
from alignguard_train.merge.room import TRUNCATION, WINNERS
from alignguard_train.personal.room import TABLES as PERSONAL
from alignguard_train.reemergence.columns import RECORDS as TUNED
from alignguard_train.robustness import measures
from alignguard_train.robustness.records import AttackedCase, Preparation
from pipelines.tables import MEANINGS

_EVALUATED, _GUARDED = schema_of(EvaluatedImage), schema_of(GuardedImage)
SCHEMAS: Mapping[tuple[str, str], pa.Schema] = {
    ("images", "edits"): schema_of(EditedPair),
    ("release", "pairs"): pa.schema(dict.fromkeys(POINTER["pairs"], pa.string())),
    ("release", "files"): pa.schema(
        {
            name: pa.int64() if name in ("rows", "bytes") else pa.string()
            for name in POINTER["files"]
        }
    ),
    ("encodings", "rows"): ROWS,
    ("guards", "measures"): schema_of(GuardMeasure),
    ("guards", "scores"): schema_of(GuardScore),
    ("cost_model", "costs"): schema_of(PairCost),
    ("experts", "history"): pa.schema({"step": pa.int64(), **dict.fromkeys(HISTORY, pa.float64())}),
    ("merge", "winners"): WINNERS,
    ("merge", "truncation"): TRUNCATION,
    ("hardening", "experts"): schema_of(HardenedExpert),
    ("evaluation", "images"): pa.schema([_EVALUATED.field(name) for name in NUMBERS]),
    ("evaluation", "rejected"): schema_of(RejectedPrompt),
    ("evaluation", "metrics"): METRICS_SCHEMA,
    ("evaluation", "paired"): PAIRED_SCHEMA,
    ("evaluation", "distributions"): DISTRIBUTIONS_SCHEMA,
    ("evaluation", "pictures"): pa.schema([_EVALUATED.field(name) for name in (*NUMBERS, "image")]),
    ("evaluation", "costs"): COSTS_SCHEMA,
    ("evaluation", "seeds"): schema_of(SeededImage),
    ("evaluation", "guarded"): pa.schema([_GUARDED.field(name) for name in BEHIND_GUARDS]),
    ("evaluation", "guarded_pictures"): _GUARDED,
    ("evaluation", "guard_times"): TIMES_SCHEMA,
    ("evaluation", "guards"): schema_of(GuardedMeasure),
    **{("personal", shard): schema_of(record) for shard, record in PERSONAL.items()},
    ("personal", "history"): pa.schema(
        {"step": pa.int64(), **dict.fromkeys(HISTORY, pa.float64())}
    ),
    ("robustness", "cases"): schema_of(AttackedCase),
    ("robustness", "prepared"): schema_of(Preparation),
    ("robustness", "metrics"): measures.METRICS_SCHEMA,
    ("robustness", "paired"): measures.PAIRED_SCHEMA,
    **{("reemergence", table): schema_of(record) for table, record in TUNED.items()},
    ("index", "funnel"): schema_of(FunnelRow),
}
"""Tables of rooms whose rows are not in ``SHARD_RECORDS``, by room and table."""

Row = tuple[str, str, str]
"""A column's name, type and meaning."""


def page() -> str:
    """The whole page, ending in a line break."""
    return "\n".join([*_intro(), *(line for table in _tables() for line in table)]) + "\n"


def _intro() -> Iterator[str]:
    yield "# Columns"
    yield ""
    yield "Every table that the rooms write. A capitalized name below a heading is a record without"
    yield "null: a dataclass in the room's `records`, or in `alignguard_data.contracts` where many"
    yield "rooms read it. `python -m pipelines.columns_page` writes this page."


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
    release = [(column.name, str(column.type), column.meaning) for column in RELEASED]
    yield _table("release: data", "One column a score at the end", [*release, *score])
    prompts = [(column.name, str(column.type), column.meaning) for column in EVALUATION_COLUMNS]
    yield _table(
        "release: prompts/evaluation", "Prompts that were never rendered for training", prompts
    )
    for (room, table), schema in SCHEMAS.items():
        known = MEANINGS[room][table]
        rows = ((field.name, str(field.type), known[field.name]) for field in schema)
        yield _table(f"{room}: {table}", "One file of the partition", rows)
    yield from _index()


def _index() -> Iterator[list[str]]:
    """The columns of the index's tables and views, whose types DuckDB shows."""
    named = {f"{view}.{column}": text for (view, column), text in IN_ONE_VIEW.items()}
    lines = [f"| `{name}` | {_cell(text)} |" for name, text in {**COLUMNS, **named}.items()]
    yield ["", "## index: tables and views", ""]
    yield ["Of every table and view, unless one is named; `DESCRIBE coverage` shows types."]
    yield ["", "| column | meaning |", "|---|---|", *lines]


def _record_rows(record: type) -> Iterator[Row]:
    known = meanings(record)
    schema: pa.Schema = schema_of(record)
    for field in schema:
        yield field.name, str(field.type), known[field.name]


def _table(title: str, subtitle: str, rows: Iterable[Row]) -> list[str]:
    head = ["", f"## {title}", "", f"{subtitle}.", ""]
    lines = [f"| `{name}` | {kind} | {_cell(text)} |" for name, kind, text in rows]
    return [*head, "| column | type | meaning |", "|---|---|---|", *lines]


def _cell(text: str) -> str:
    return text.replace("|", "/")


if __name__ == "__main__":
    sys.stdout.write(page())
