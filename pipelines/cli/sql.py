"""`alignguard sql`: one query against the index, as a table, JSON, or a file."""

from collections.abc import Sequence
from pathlib import Path

from alignguard_data.index.sql import export
from alignguard_data.index.sql import query as query_index
from alignguard_data.storage.paths import DataRoot
from pipelines.cli.console import Output, table
from pipelines.profile import load_profile
from pipelines.resources import data_root

MAX_SHOWN = 200


def sql_command(console: Output, query: str, *, out: Path | None, as_json: bool) -> int:
    """Print the rows of ``query``, or write them to a file."""
    data = DataRoot(root=data_root(), profile=load_profile().name)
    if out:
        console.say(f"{export(data, query, out):,} rows in {out}")
        return 0
    columns, rows = query_index(data, query)
    if as_json:
        names = each_once(columns)
        console.json([dict(zip(names, row, strict=True)) for row in rows])
        return 0
    shown = table(*columns)
    for row in rows[:MAX_SHOWN]:
        shown.add_row(*(str(value) for value in row))
    console.print(shown)
    if len(rows) > MAX_SHOWN:
        console.say(f"{len(rows) - MAX_SHOWN} more rows; use LIMIT, or --json for all of them")
    return 0


def each_once(columns: Sequence[str]) -> list[str]:
    """Unique names, as in an export: ``a, a`` is ``a, a_1``."""
    taken, found = set(columns), list[str]()
    for name in columns:
        number, free = 0, name
        while free in found or (number and free in taken):
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found
