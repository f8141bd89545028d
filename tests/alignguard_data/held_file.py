"""A DuckDB file that another process has open."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def held(file: Path, *, read_only: bool) -> Iterator[None]:
    """Another process has it open until the block ends."""
    code = (
        f"import duckdb; c = duckdb.connect({str(file)!r}, read_only={read_only}); "
        "print('open', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout
    assert holder.stdout.readline() == b"open\n"
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            holder.communicate(b"\n")
