"""Opens DuckDB files that may be locked, not permitted, or damaged.

DuckDB raises one error class for all of these, so the cause is found from the file.
"""

import fcntl
from pathlib import Path

import duckdb

from alignguard_data.contracts.errors import PartitionBusy, StorageError
from alignguard_data.storage.places import reason


def connect(file: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a file, and create it if it is missing and writable.

    Args:
        file: a local file.
        read_only: open it for reading, which several processes may do at once.

    Returns:
        A connection, which the caller closes.

    Raises:
        PartitionBusy: another process has it open.
        StorageError: the system refuses to open or create it.
        duckdb.Error: it is not a DuckDB file, of another version, or damaged.
    """
    try:
        return duckdb.connect(str(file), read_only=read_only)
    except duckdb.IOException as error:
        _raise_for_the_system(file, read_only, error)
    # The lock is gone by now, or the file itself is at fault.
    return duckdb.connect(str(file), read_only=read_only)


def is_sound(file: Path) -> bool:
    """Whether all rows of all tables can be read, with block checksums.

    Args:
        file: a local file that exists.

    Returns:
        False if it is damaged or no DuckDB file.

    Raises:
        PartitionBusy: another process has the file open.
        StorageError: the system refuses to read it.
    """
    try:
        with connect(file, read_only=True) as connection:
            tables = connection.execute(
                "select schema_name, table_name from duckdb_tables() where not temporary"
            ).fetchall()
            for schema, table in tables:
                connection.execute(f'select bit_xor(hash(t)) from "{schema}"."{table}" t')
    except duckdb.OutOfMemoryException:
        return True  # the file is not at fault
    except duckdb.Error:
        return False
    return True


def _raise_for_the_system(file: Path, read_only: bool, error: duckdb.Error) -> None:
    """Raise the system's reason not to open the file; return if there is none."""
    try:
        with file.open("rb" if read_only else "r+b") as handle:
            # DuckDB's own lock: shared by readers, exclusive for a writer, released with the
            # handle.
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
