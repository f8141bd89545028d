"""Read-only SQL over the index, the releases and the adapters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from alignguard_data.contracts.errors import (
    AlignGuardError,
    InputMissing,
    IntegrityError,
)
from alignguard_data.index.database import FILE
from alignguard_data.index.views import attach_adapters, attach_releases
from alignguard_data.storage import duckdb_files
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import user_path
from alignguard_data.storage.shards import atomic_file

ROOM = "index"


EXPORTS = ("csv", "parquet", "json")


class QueryFailed(AlignGuardError):
    """A query failed; the text is DuckDB's."""


def connect(data: DataRoot, out: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Open the index read-only with views of releases and adapters.

    Queries can read only the index and the releases: no other file, network or extension, and the
    settings are locked.

    Args:
        data: the data folder.
        out: the one file that queries may write.

    Returns:
        A connection, which the caller closes.

    Raises:
        InputMissing: there is no index yet.
        PartitionBusy: another process has the file open for writing.
        StorageError: its file cannot be read.
        IntegrityError: its file or a release is damaged.
    """
    folder = data.partition(ROOM)
    file = Path(str(folder / manifests.require(folder).file(FILE).name))  # the index is local
    try:
        connection = duckdb_files.connect(file, read_only=True)
    except duckdb.IOException as error:
        raise InputMissing(f"{file} cannot be opened: materialize the index again") from error
    except duckdb.Error as error:
        raise IntegrityError(f"{file} is damaged: materialize the index again") from error
    try:
        _fence(connection, data, out)
    except duckdb.Error as error:
        connection.close()
        raise IntegrityError(f"{file} is damaged: materialize the index again") from error
    return connection


def _fence(connection: duckdb.DuckDBPyConnection, data: DataRoot, out: Path | None) -> None:
    attach_releases(connection, data)
    attach_adapters(connection, data)
    if out:
        connection.execute(f"set allowed_paths = [{_quoted(out)}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def query(
    data: DataRoot, sql: str, parameters: Sequence[object] = ()
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run a statement on the read-only index.

    Args:
        data: the data folder.
        sql: one statement.
        parameters: values of its ``?``.

    Returns:
        Column names, and rows.

    Raises:
        QueryFailed: there is no statement, or DuckDB rejected it.
    """
    statement = _statement(sql)
    with connect(data) as connection:
        try:
            result = connection.execute(statement, parameters)
            columns = [column[0] for column in result.description or ()]
            return columns, result.fetchall()
        except duckdb.Error as error:
            raise QueryFailed(_failure(error)) from error


def export(data: DataRoot, sql: str, target: Path) -> int:
    """Write the rows of one query to a file, whole or not at all.

    Args:
        data: the data folder.
        sql: one statement.
        target: a file that ends in ``.csv``, ``.parquet`` or ``.json`` (one object a line).

    Returns:
        Number of rows.

    Raises:
        QueryFailed: the ending is unknown, there is no statement, or DuckDB rejected it.
    """
    statement, target = _statement(sql), user_path(target)
    kind = target.suffix.removeprefix(".").lower()
    if kind not in EXPORTS:
        raise QueryFailed(f"{target} must end in one of .{', .'.join(EXPORTS)}")
    with atomic_file(target) as temporary, connect(data, out=temporary) as connection:
        try:
            copied = connection.execute(
                f"copy ({statement}\n) to {_quoted(temporary)} (format {kind}, use_tmp_file false)"
            ).fetchall()
        except duckdb.Error as error:
            raise QueryFailed(_failure(error)) from error
    return int(copied[0][0])


def _statement(sql: str) -> str:
    """The query without trailing semicolons and comments, so it can be embedded in a statement.

    Raises:
        QueryFailed: nothing is left.
    """
    text = sql.encode()  # DuckDB counts bytes
    for offset, kind in reversed(duckdb.tokenize(sql)):
        if kind != duckdb.token_type.comment and text[offset : offset + 1] != b";":
            return text.decode()
        text = text[:offset].rstrip()
    raise QueryFailed("the query is empty: ask for example `SELECT * FROM coverage`")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _failure(error: duckdb.Error) -> str:
    hint = ""
    if isinstance(error, duckdb.PermissionException):
        hint = "\nA query reads only the index and the releases; --out writes its rows to a file."
    return f"{error}{hint}"
