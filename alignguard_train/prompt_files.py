"""Files of prompts as rows of text cells with their place; knows columns, not what they mean."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

Format = Literal["i2p", "unsafe_diffusion", "coprov2", "csv", "parquet", "text"]

_REQUIRED: dict[Format, tuple[str, ...]] = {
    "i2p": ("prompt", "categories", "sd_seed", "sd_guidance_scale"),
    "coprov2": ("prompt", "category"),
}
_ENDINGS: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".txt": "text"}
_READ = (
    "prompt", "category", "categories", "concept", "seed", "sd_seed", "guidance_scale",
    "sd_guidance_scale", "width", "height", "sd_image_width", "sd_image_height",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cells:
    """One row: column to text; ``place`` is its line or row, counted from 1."""

    file: Path
    place: str
    values: Mapping[str, str]

    def text(self, column: str) -> str:
        """The cell, or an empty text."""
        return self.values.get(column, "")

    def number(self, columns: Sequence[str], faults: list[str], *, at_least: float) -> float | None:
        """The first of ``columns`` that has a value; what is no number becomes a fault."""
        for column in columns:
            if told := self.text(column).strip():
                try:
                    value = float(told)
                except ValueError:
                    value = float("nan")
                # A comparison with NaN is false, so NaN and text fail alike.
                if at_least <= value < float("inf"):
                    return value
                self._fault(faults, column, f"must be a number from {at_least:g} on", told)
        return None

    def integer(
        self,
        columns: Sequence[str],
        faults: list[str],
        *,
        at_least: int,
        at_most: int,
        step: int = 1,
    ) -> int | None:
        """Likewise, a whole number within bounds and a multiple of ``step``."""
        for column in columns:
            if told := self.text(column).strip():
                value = _whole(told)
                if value is not None and at_least <= value <= at_most and value % step == 0:
                    return value
                what = f"must be a whole number from {at_least} to {at_most}"
                what += f", a multiple of {step}" if step > 1 else ""
                self._fault(faults, column, what, told)
        return None

    def _fault(self, faults: list[str], column: str, what: str, told: str) -> None:
        faults.append(f"{self.file}, {self.place}: {column} {what}, got {told[:40]!r}")


def _whole(told: str) -> int | None:
    try:
        return int(told)
    except ValueError:
        pass
    try:  # pandas writes whole numbers beside gaps as 512.0
        value = float(told)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


def read_cells(file: Path, form: Format | None, faults: list[str]) -> Iterator[Cells]:
    """The rows of a file; what makes it or a row unreadable is added to ``faults``."""
    chosen = form or _ENDINGS.get(file.suffix.lower())
    if chosen is None:
        known = ", ".join(sorted(_ENDINGS))
        faults.append(f"{file}: no format is given and the ending is none of {known}")
        return
    if chosen == "unsafe_diffusion":  # its lists come as text and as CSV
        chosen = "csv" if file.suffix.lower() == ".csv" else "text"
    try:
        raw = file.read_bytes()
    except OSError as error:
        faults.append(f"{file}: cannot be read ({error.strerror})")
        return
    if chosen == "parquet":
        yield from _parquet(file, raw, faults)
        return
    text = _decoded(file, raw, faults)
    if text is None:
        return
    if chosen == "text":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield Cells(file, f"line {number}", {"prompt": line})
    else:
        yield from _csv(file, text, _REQUIRED.get(chosen, ("prompt",)), faults)


def _decoded(file: Path, raw: bytes, faults: list[str]) -> str | None:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        bad = raw[error.start : error.start + 1].hex()
        faults.append(f"{file}, line {line}: is not UTF-8 (byte 0x{bad})")
        return None


def _csv(file: Path, text: str, required: Sequence[str], faults: list[str]) -> Iterator[Cells]:
    # Lines end at \n alone: a quoted prompt may hold other separators.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    before = 0
    try:
        for cells in reader:
            first, before = before + 1, reader.line_num
            if not header:
                header = [name.strip().lower() for name in cells]
                if not _has_columns(file, header, required, faults):
                    return
            elif cells and len(cells) != len(header):
                faults.append(
                    f"{file}, line {first}: has {len(cells)} cells, the header {len(header)}"
                )
            elif cells:
                yield Cells(file, f"line {first}", dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        faults.append(f"{file}, line {before + 1}: is not CSV ({error})")
    if not header:
        faults.append(f"{file}: is empty")


def _parquet(file: Path, raw: bytes, faults: list[str]) -> Iterator[Cells]:
    try:
        with pq.ParquetFile(pa.BufferReader(raw)) as parquet:
            names = parquet.schema_arrow.names
            if not _has_columns(file, names, ("prompt",), faults):
                return
            table = parquet.read(columns=[name for name in names if name in _READ])
    except (pa.ArrowInvalid, OSError) as error:
        faults.append(f"{file}: is not Parquet ({error})")
        return
    for number, row in enumerate(table.to_pylist(), 1):
        values = {name: _as_text(value) for name, value in row.items() if value is not None}
        yield Cells(file, f"row {number}", values)


def _as_text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _has_columns(
    file: Path, names: Sequence[str], required: Sequence[str], faults: list[str]
) -> bool:
    missing = [name for name in required if name not in names]
    if missing:
        shown = ", ".join(names)[:200]
        faults.append(f"{file}: has no column {', '.join(missing)}; its columns are: {shown}")
    return not missing
