"""The study's results: JSON lines that are only ever added to, one a trial.

A line that a kill cut short is dropped and its trial done again; lines of trials that the study no
longer has are left alone, and not read.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

RESULTS = Path(__file__).parents[2] / "docs" / "study" / "results.jsonl"


def read(path: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Lines by the trial's key; of two of one trial the first."""
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
    """Append one line, whole and on disk before this returns; several processes may."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")), path.open("ab+") as handle:
        handle.seek(0, os.SEEK_END)
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":  # a kill cut the last line short
                handle.write(b"\n")
        handle.write(json.dumps(result).encode() + b"\n")
        handle.flush()
        os.fsync(handle.fileno())
