"""`alignguard sql`: one query against the index, as a table, JSON, or a file."""

import json
from pathlib import Path

from alignguard_data.index import export
from alignguard_data.index import query as query_index
from alignguard_data.paths import DataRoot
from pipelines.cli.console import Output, table
from pipelines.profile import load_profile
from pipelines.resources import data_root

MAX_SHOWN = 200


def sql_command(console: Output, query: str, *, out: Path | None, as_json: bool) -> int:
    """Print the rows that ``query`` returns, or write them to a file."""
    data = DataRoot(root=data_root(), profile=load_profile().name)
    if out:
        console.say(f"{export(data, query, out):,} rows in {out}")
        return 0
    columns, rows = query_index(data, query)
    if as_json:
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        console.out(json.dumps(records, default=str, indent=2), highlight=False)
        return 0
    shown = table(*columns)
    for row in rows[:MAX_SHOWN]:
        shown.add_row(*(str(value) for value in row))
    console.print(shown)
    if len(rows) > MAX_SHOWN:
        console.say(f"{len(rows) - MAX_SHOWN} more rows; use LIMIT, or --json for all of them")
    return 0
