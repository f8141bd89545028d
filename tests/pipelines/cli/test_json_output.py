"""What `--json` prints is JSON for every reader, and holds every column."""

import datetime
import io
import json
from decimal import Decimal
from uuid import UUID

import duckdb
import numpy as np
import pytest

from alignguard_data.storage.paths import DataRoot
from pipelines.cli import sql
from pipelines.cli.console import Output


def strict(text: str):
    def refuse(word: str):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


VALUES = [
    (float("nan"), None),
    (float("inf"), None),
    (np.float32("nan"), None),
    (np.float32(0.5), 0.5),
    (np.int64(3), 3),
    (True, True),
    (2**70, 2**70),
    (Decimal("1.5"), 1.5),
    (Decimal("NaN"), None),
    (b"\x00\xff", "AP8="),
    (bytearray(b"x"), "eA=="),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC), "2026-01-02T03:00:00+00:00"),
    (datetime.time(3, 4), "03:04:00"),
    (datetime.timedelta(days=1), "1 day, 0:00:00"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ({1: float("nan"), "b": [b"x"]}, {"1": None, "b": ["eA=="]}),
    ((1, (2, float("-inf"))), [1, [2, None]]),
    ({3}, [3]),
]


@pytest.mark.parametrize(("value", "wanted"), VALUES, ids=lambda value: repr(value)[:30])
def test_every_value_has_a_json_form(value, wanted):
    out = io.StringIO()
    Output(file=out).json({"it": value})
    assert strict(out.getvalue()) == {"it": wanted}


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a_1", "a_2"]),
        (["a", "a_1", "a"], ["a", "a_1", "a_2"]),
        (["a", "a", "a_1"], ["a", "a_2", "a_1"]),
        ([], []),
    ],
)
def test_columns_of_one_name_are_all_kept(columns, wanted):
    assert sql.each_once(columns) == wanted


QUERY = """
    select 1 as a, 2 as a, 'nan'::double as n, 'inf'::float as i, 1.5 as d, date '2026-01-02' as t,
    '\\xFF'::blob as b, {'x': 'nan'::double} as s, null as z
"""


def test_a_querys_rows_are_whole_and_json(monkeypatch):
    with duckdb.connect() as connection:
        found = connection.execute(QUERY)
        columns, rows = [column[0] for column in found.description or ()], found.fetchall()
    assert columns[:2] == ["a", "a"]
    monkeypatch.setattr(sql, "query_index", lambda *_: (columns, rows))
    monkeypatch.setattr(sql, "DataRoot", lambda **_: DataRoot)
    out = io.StringIO()
    assert sql.sql_command(Output(file=out), QUERY, out=None, as_json=True) == 0
    assert strict(out.getvalue()) == [
        {"a": 1, "a_1": 2, "n": None, "i": None, "d": 1.5, "t": "2026-01-02", "b": "/w==",
         "s": {"x": None}, "z": None}
    ]  # fmt: skip
