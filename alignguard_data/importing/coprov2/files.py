"""Reads and checks the CSV files of the published CoProV2; each row keeps its place.

Columns ``prompt,image,category`` in any order; other columns are reported and ignored. Checks only
the form.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.storage.row_files import ENDINGS, Columns, RowFile, read_rows

Part = Literal["train", "test"]

COLUMNS = ("prompt", "image", "category")
TRAIN_NAME = re.compile(r"(?P<side>[us])_idx_(?P<number>[0-9]+)_0\.jpg")
"""Unsafe (``u``) or safe (``s``) image of pair ``number``."""

_PART_IN_NAME = re.compile(r"(?<![a-z])(train|test)(?![a-z])")
_COLUMNS = Columns(spellings={name: (name,) for name in COLUMNS}, required=COLUMNS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row: ``row`` counts data rows from 1, ``line`` is the line where it begins."""

    file: str
    part: Part
    row: int
    line: int
    prompt: str
    image: str
    category: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvFile:
    """One file: its part of the dataset, its rows, and what was ignored."""

    name: str
    part: Part
    sha256: str
    rows: tuple[Row, ...]
    blank_lines: int
    ignored_columns: tuple[str, ...]


def read_files(paths: Sequence[Path]) -> tuple[CsvFile, ...]:
    """Read the published files.

    Args:
        paths: CSV or TSV files, in any order.

    Returns:
        Train files before test files, each by name.

    Raises:
        ConfigError: files cannot be read, are not UTF-8, lack a column, or have rows that are not
            CSV; all faults, by file and line.
    """
    names = Counter(path.name for path in paths)
    faults: list[str] = []
    files: list[CsvFile] = []
    for path in paths:
        name = path.name if names[path.name] == 1 else path.as_posix()
        found = read_rows(path, _COLUMNS, faults, ENDINGS.get(path.suffix.lower(), "csv"))
        if found:
            files.append(_csv_file(path, name, found))
    if faults:
        raise ConfigError("CoProV2 as CSV", faults)
    return tuple(sorted(files, key=lambda file: (file.part == "test", file.name, file.sha256)))


def _csv_file(path: Path, name: str, found: RowFile) -> CsvFile:
    part = _part(path, [cells.text("image").strip() for cells in found.rows])
    rows = tuple(
        Row(
            file=name,
            part=part,
            row=number,
            line=cells.line,
            **{column: cells.text(column).strip() for column in COLUMNS},
        )
        for number, cells in enumerate(found.rows, start=1)
    )
    return CsvFile(
        name=name,
        part=part,
        sha256=found.sha256,
        rows=rows,
        blank_lines=found.blank_rows,
        ignored_columns=found.unread,
    )


def _part(path: Path, images: Sequence[str]) -> Part:
    """Train or test by the file's name; else train if any image is named like a train image."""
    said = set(_PART_IN_NAME.findall(path.stem.casefold()))
    if said == {"train"} or said == {"test"}:
        return "train" if "train" in said else "test"
    return "train" if any(TRAIN_NAME.fullmatch(image) for image in images) else "test"
