"""The study's results: append-only JSON lines, one per trial.

A truncated line is ignored and its trial repeated; lines of removed trials are kept but not read.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

RESULTS = Path(__file__).parents[2] / "docs" / "study" / "results.jsonl"


def read(path: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Lines by trial key; the first line of a trial counts."""
    found: dict[str, dict[str, Any]] = {}
    if not path.is_file():
        return found
    for line in path.read_text().splitlines():
        try:
            result = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.setdefault(result["key"], result)
    return found


def add(result: Mapping[str, Any], path: Path = RESULTS) -> None:
    """Append one line atomically and fsync it; safe for several processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")), path.open("ab+") as handle:
        handle.seek(0, os.SEEK_END)
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":  # the last line was truncated by a kill
                handle.write(b"\n")
        handle.write(json.dumps(result).encode() + b"\n")
        handle.flush()
        os.fsync(handle.fileno())
