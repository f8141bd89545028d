"""The CSV files of the published CoProV2: read whole, checked, each row with its place.

Columns ``prompt,image,category`` in any order; others are named and left alone. A file is read
once, so what is hashed is what is parsed. Nothing is judged here but the form.
"""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alignguard_data.errors import ConfigError

Part = Literal["train", "test"]

COLUMNS = ("prompt", "image", "category")
TRAIN_NAME = re.compile(r"(?P<side>[us])_idx_(?P<number>[0-9]+)_0\.jpg")
"""Unsafe (``u``) or safe (``s``) image of pair ``number``."""

_PART_IN_NAME = re.compile(r"(?<![a-z])(train|test)(?![a-z])")
_FAULTS_SHOWN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row: ``row`` counts the file's data rows from 1, ``line`` is where it begins."""

    file: str
    part: Part
    row: int
    line: int
    prompt: str
    image: str
    category: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvFile:
    """One file: its part of the dataset, its rows, and what was passed over."""

    name: str
    part: Part
    sha256: str
    rows: tuple[Row, ...]
    blank_lines: int
    ignored_columns: tuple[str, ...]


class _Faulty(Exception):
    """One file's faults, on their way to the list of all."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = faults
        super().__init__(*faults)


def read_files(paths: Sequence[Path]) -> tuple[CsvFile, ...]:
    """Every file, train before test, then by name, whatever the order of ``paths``.

    Raises:
        ConfigError: a file cannot be read, is not UTF-8, lacks a column, or has a row that is not
            CSV; every such fault, by file and line.
    """
    names = Counter(path.name for path in paths)
    faults: list[str] = []
    files: list[CsvFile] = []
    for path in paths:
        name = path.name if names[path.name] == 1 else path.as_posix()
        try:
            files.append(_read(path, name))
        except _Faulty as error:
            faults += [f"{path}{fault}" for fault in error.faults]
    if faults:
        raise ConfigError("CoProV2 as CSV", faults)
    return tuple(sorted(files, key=lambda file: (file.part == "test", file.name, file.sha256)))


def _read(path: Path, name: str) -> CsvFile:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _Faulty([f": cannot be read: {error.strerror}"]) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _Faulty([f":{line}: is not UTF-8 (byte {content[error.start]:#04x})"]) from error
    records = _records(text)
    columns = _header(records)
    found, blank = _body(records, columns)
    part = _part(path, [image for _, _, image, _ in found])
    rows = tuple(
        Row(file=name, part=part, row=n, line=line, prompt=prompt, image=image, category=category)
        for n, (line, prompt, image, category) in enumerate(found, start=1)
    )
    return CsvFile(
        name=name,
        part=part,
        sha256=hashlib.sha256(content).hexdigest(),
        rows=rows,
        blank_lines=blank,
        ignored_columns=tuple(column for column in columns if column not in COLUMNS),
    )


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line on which each record begins, and its fields."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # After an unbalanced quote, nothing of what follows can be told apart.
            raise _Faulty([f":{line}: is not CSV: {error}; look for a quote"]) from error
        yield line, fields


def _header(records: Iterator[tuple[int, list[str]]]) -> list[str]:
    _, fields = next(records, (1, []))
    columns = [field.strip().casefold() for field in fields]
    counted = Counter(columns)
    faults = [f":1: column {name!r} is missing" for name in COLUMNS if not counted[name]]
    faults += [f":1: column {name!r} stands twice" for name in COLUMNS if counted[name] > 1]
    if faults:
        raise _Faulty(faults)
    return columns


def _body(
    records: Iterator[tuple[int, list[str]]], columns: Sequence[str]
) -> tuple[list[tuple[int, str, str, str]], int]:
    places = [columns.index(name) for name in COLUMNS]
    rows, blank, faults = [], 0, []
    try:
        for line, fields in records:
            if not fields:
                blank += 1
            elif len(fields) != len(columns):
                faults.append(f":{line}: has {len(fields)} fields, not {len(columns)}")
            else:
                prompt, image, category = (fields[place].strip() for place in places)
                rows.append((line, prompt, image, category))
    except _Faulty as error:
        faults += error.faults
    if faults:
        more = len(faults) - _FAULTS_SHOWN
        raise _Faulty(faults[:_FAULTS_SHOWN] + ([f": {more} more such rows"] if more > 0 else []))
    return rows, blank


def _part(path: Path, images: Sequence[str]) -> Part:
    """By the word in the file's name; without one, train if any row is named like a train image."""
    said = set(_PART_IN_NAME.findall(path.stem.casefold()))
    if said == {"train"} or said == {"test"}:
        return "train" if "train" in said else "test"
    return "train" if any(TRAIN_NAME.fullmatch(image) for image in images) else "test"
