r"""Reads user tables as rows of text cells: CSV, TSV, Parquet, or one text per line.

One reader for prompt sets, labels and imports, so column spellings, blank rows, gaps and newlines
have one meaning. It knows the columns' names but not their content. UTF-8, with or without a byte
order mark; lines end at ``\n``, ``\r\n`` and ``\r`` only.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from alignguard_data.storage.shards import sha256_file

Layout = Literal["csv", "parquet", "text"]

ENDINGS: dict[str, Layout] = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}
FAULTS_SHOWN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """The columns to read from a table.

    Attributes:
        spellings: accepted spellings by column name, best first. Case, blanks, hyphens and
            underscores are ignored. If a file has several, the first one is read.
        required: names that a file must have.
        lists: names whose Parquet column may contain lists, read as ``a,b``.
    """

    spellings: Mapping[str, Sequence[str]]
    required: Sequence[str]
    lists: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """One row; ``line`` is its first line, or its row in Parquet, counted from 1.

    ``values`` are its texts by column name, ``written`` the file's own column names.
    """

    file: Path
    line: int
    place: str
    values: Mapping[str, str]
    written: Mapping[str, str]

    def text(self, column: str) -> str:
        """The cell's text, or an empty string.

        Args:
            column: name of the column.

        Returns:
            The text; empty if the file has no such column.
        """
        return self.values.get(column, "")

    def fault(self, what: str) -> str:
        """``what``, prefixed with file and line.

        Args:
            what: what is wrong.

        Returns:
            A message for the user.
        """
        return f"{self.file}, {self.place}: {what}"

    def number(self, column: str, faults: list[str], *, at_least: float) -> float | None:
        """Read the cell as a number.

        Args:
            column: name of the column.
            faults: receives a message if the text is no such number.
            at_least: the smallest accepted value.

        Returns:
            The number, or None for a gap or a fault.
        """
        text = self._stripped(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        # A comparison with NaN is false, so NaN fails too.
        if at_least <= value < float("inf"):
            return value
        self._wrong(faults, column, f"must be a number from {at_least:g} on", text)
        return None

    def integer(
        self, column: str, faults: list[str], *, at_least: int, at_most: int, step: int = 1
    ) -> int | None:
        """Read the cell as an integer.

        Args:
            column: name of the column.
            faults: receives a message if the text is no such integer.
            at_least: the smallest accepted value.
            at_most: the largest accepted value.
            step: the value must be a multiple of this.

        Returns:
            The integer, or None after a fault.
        """
        text = self._stripped(column)
        if not text:
            return None
        value = parse_integer(text)
        if value is not None and at_least <= value <= at_most and value % step == 0:
            return value
        what = f"must be a whole number from {at_least} to {at_most}"
        what += f", a multiple of {step}" if step > 1 else ""
        self._wrong(faults, column, what, text)
        return None

    def _stripped(self, column: str) -> str:
        return self.text(column).strip()

    def _wrong(self, faults: list[str], column: str, what: str, text: str) -> None:
        faults.append(self.fault(f"{self.written.get(column, column)} {what}, got {text[:40]!r}"))


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFile:
    """A file's rows; ``unread`` are the ignored columns, as spelt in the file."""

    rows: tuple[Cells, ...]
    unread: tuple[str, ...]
    blank_rows: int
    sha256: str


def parse_integer(text: str) -> int | None:
    """Parse an integer, also as pandas writes it in columns with gaps (``512.0``); else None."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


def lines_of(text: str) -> list[str]:
    """Lines of a text; other separators, such as U+2028, do not end a line."""
    return re.split(r"\r\n|\r|\n", text)


def decoded(raw: bytes) -> str:
    """Decode UTF-8 with or without a byte order mark.

    Args:
        raw: a file's bytes.

    Returns:
        The text, without the mark.

    Raises:
        ValueError: it is not UTF-8; the message has the line and the byte.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(lines_of(raw[: error.start].decode()))
        raise ValueError(f"line {line}: is not UTF-8 (byte {raw[error.start]:#04x})") from error


def read_rows(
    file: Path, columns: Columns, faults: list[str], layout: Layout | None = None
) -> RowFile | None:
    """Read the rows of a file; blank rows are left out and counted.

    Args:
        file: where it lies.
        columns: the columns to look for, and their other spellings.
        faults: receives everything that makes the file or a row unreadable.
        layout: by default from the file's ending. A file of one text per line has only the first
            required column.

    Returns:
        The rows, or None if nothing could be read.
    """
    chosen = layout or ENDINGS.get(file.suffix.lower())
    if chosen is None:
        known = ", ".join(sorted(ENDINGS))
        faults.append(f"{file}: no format is given and the ending is not one of {known}")
        return None
    found: list[str] = []
    try:
        if chosen == "parquet":
            return _parquet(file, columns)
        return _texts(file, columns, chosen, found)
    except OSError as error:
        found.append(f"{file}: cannot be read ({error.strerror or error})")
    except _Unreadable as error:
        found += error.faults
    finally:
        more = len(found) - FAULTS_SHOWN
        faults += found[:FAULTS_SHOWN] + ([f"{file}: {more} more such rows"] if more > 0 else [])
    return None


class _Unreadable(Exception):
    """Faults that make a whole file unreadable."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        super().__init__(*faults)


def _texts(file: Path, columns: Columns, layout: Layout, faults: list[str]) -> RowFile:
    raw = file.read_bytes()
    try:
        text = decoded(raw)
    except ValueError as error:
        raise _Unreadable(f"{file}, {error}") from error
    if layout == "text":
        (name, *_) = columns.required
        lines = list(enumerate(lines_of(text), 1))
        rows = [_cells(file, n, "line", {name: line}, {}) for n, line in lines if line.strip()]
        blank, unread = 0, ()
    else:
        delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
        records = _records(file, text, delimiter)
        _, header = next(records, (1, []))
        if not any(header):
            raise _Unreadable(f"{file}: is empty")
        chosen, unread = _choose(file, header, columns)
        rows, blank = _body(file, records, header, chosen, faults)
    return RowFile(
        rows=tuple(rows),
        unread=tuple(unread),
        blank_rows=blank,
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def _records(file: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """First line and cells of each record."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # After an unbalanced quote the rest of the file is ambiguous.
            fault = f"{file}, line {line}: is not CSV ({error}); look for a quote"
            raise _Unreadable(fault) from error
        yield line, cells


def _body(
    file: Path,
    records: Iterator[tuple[int, list[str]]],
    header: Sequence[str],
    chosen: Mapping[str, int],
    faults: list[str],
) -> tuple[list[Cells], int]:
    rows, blank = [], 0
    written = {name: header[place].strip() for name, place in chosen.items()}
    for line, cells in records:
        if not any(cell.strip() for cell in cells):
            blank += 1
        elif len(cells) != len(header):
            faults.append(f"{file}, line {line}: has {len(cells)} cells, the header {len(header)}")
        else:
            values = {name: cells[place] for name, place in chosen.items()}
            rows.append(_cells(file, line, "line", values, written))
    return rows, blank


def _cells(
    file: Path, line: int, unit: str, values: Mapping[str, str], written: Mapping[str, str]
) -> Cells:
    return Cells(file=file, line=line, place=f"{unit} {line}", values=values, written=written)


def _choose(
    file: Path, header: Sequence[str], columns: Columns
) -> tuple[dict[str, int], list[str]]:
    """Index of each column in the header, and the header's unread columns."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(header):
        places.setdefault(_plain(name), []).append(place)
    chosen: dict[str, int] = {}
    faults = []
    for name, spellings in columns.spellings.items():
        there = [places[_plain(one)] for one in spellings if _plain(one) in places]
        if there:
            chosen[name] = there[0][0]
        if there and len(there[0]) > 1:
            twice = ", ".join(header[place].strip() for place in there[0])
            faults.append(f"{file}: has column {name} {len(there[0])} times: {twice}")
    if missing := [name for name in columns.required if name not in chosen]:
        wanted = ", ".join(_spelt(name, columns.spellings[name]) for name in missing)
        shown = ", ".join(header)[:200]
        faults.append(f"{file}: has no column {wanted}; its columns are: {shown}")
    if faults:
        raise _Unreadable(*faults)
    unread = [name.strip() for place, name in enumerate(header) if place not in chosen.values()]
    return chosen, [name for name in unread if name]


def _spelt(name: str, spellings: Sequence[str]) -> str:
    others = [one for one in spellings if one != name]
    return f"{name} (or {', '.join(others)})" if others else name


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _parquet(file: Path, columns: Columns) -> RowFile:
    try:
        with file.open("rb") as handle, pq.ParquetFile(handle) as parquet:
            schema = parquet.schema_arrow
            chosen, unread = _choose(file, schema.names, columns)
            _check_types(file, schema, chosen, columns.lists)
            written = {name: schema.names[place] for name, place in chosen.items()}
            table = parquet.read(columns=list(written.values()))
            found = {name: _cell_texts(table[column]) for name, column in written.items()}
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _Unreadable(f"{file}: is not Parquet ({error})") from error
    rows, blank = [], 0
    for number in range(table.num_rows):
        values = {name: texts[number] for name, texts in found.items()}
        if any(text.strip() for text in values.values()):
            rows.append(_cells(file, number + 1, "row", values, written))
        else:
            blank += 1
    return RowFile(
        rows=tuple(rows), unread=tuple(unread), blank_rows=blank, sha256=sha256_file(file)
    )


def _check_types(
    file: Path, schema: pa.Schema, chosen: Mapping[str, int], lists: frozenset[str]
) -> None:
    # Otherwise the repr of bytes or of a struct would be used as text.
    faults = []
    for name, place in chosen.items():
        field = schema.field(place)
        held = field.type
        if name in lists and (pa.types.is_list(held) or pa.types.is_large_list(held)):
            held = held.value_type
        if pa.types.is_dictionary(held):
            held = held.value_type
        if not any(test(held) for test in _READABLE):
            faults.append(f"{file}: column {field.name} holds {field.type}, not text or numbers")
    if faults:
        raise _Unreadable(*faults)


_READABLE = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_boolean,
    pa.types.is_null,
)


def _cell_texts(column: pa.ChunkedArray) -> list[str]:
    return [_as_text(value) for value in column.to_pylist()]


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(text for one in value if (text := _as_text(one)))
    # pandas writes NaN for a gap in a numeric column.
    return "" if value is None or value != value else str(value)
