"""Opening DuckDB files that may be in use, refused by the system, or damaged.

Which of these it is, is looked at in the file itself: DuckDB has one class for all.
"""

import fcntl
from pathlib import Path

import duckdb

from alignguard_data.contracts.errors import PartitionBusy, StorageError
from alignguard_data.storage.places import reason


def connect(file: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a file, or make it where it is not there and may be written.

    Raises:
        PartitionBusy: another process has it open.
        StorageError: the system does not let it be opened or made.
        duckdb.Error: it is no DuckDB file, of another version, or damaged.
    """
    try:
        return duckdb.connect(str(file), read_only=read_only)
    except duckdb.IOException as error:
        _raise_for_the_system(file, read_only, error)
    # Nothing is in the way now: whoever held it has let go, or the file itself is at fault.
    return duckdb.connect(str(file), read_only=read_only)


def is_sound(file: Path) -> bool:
    """Whether every row of every table can be read, each block against its checksum.

    Raises:
        PartitionBusy: another process has the file open.
        StorageError: the system does not let it be read.
    """
    try:
        with connect(file, read_only=True) as connection:
            tables = connection.execute(
                "select schema_name, table_name from duckdb_tables() where not temporary"
            ).fetchall()
            for schema, table in tables:
                connection.execute(f'select bit_xor(hash(t)) from "{schema}"."{table}" t')
    except duckdb.OutOfMemoryException:
        return True  # nothing against the file
    except duckdb.Error:
        return False
    return True


def _raise_for_the_system(file: Path, read_only: bool, error: duckdb.Error) -> None:
    """Raise what the system has against opening the file; return if it has nothing."""
    try:
        with file.open("rb" if read_only else "r+b") as handle:
            # DuckDB's own lock: readers share it, a writer does not; it goes with the handle.
            fcntl.lockf(handle, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        how = "locked: another process writes to it" if read_only else "open in another process"
        raise PartitionBusy(f"{file} is {how}") from error
    except FileNotFoundError:
        if not read_only:  # DuckDB would have made it
            raise StorageError(f"cannot write {file}: {error}") from error
    except OSError as refused:
        doing = "read" if read_only else "write"
        raise StorageError(f"cannot {doing} {file}: {reason(refused)}") from error
