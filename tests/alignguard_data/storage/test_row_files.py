"""The one reader of tables: equal rows from CSV, TSV, Parquet and text, faults with a place."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignguard_data.storage.row_files import Columns, RowFile, lines_of, read_rows

COLUMNS = Columns(
    spellings={"prompt": ("prompt",), "seed": ("own_seed", "seed"), "tags": ("tags",)},
    required=("prompt",),
    lists=frozenset({"tags"}),
)
ODD_SPACES = ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\xa0"]
"""What ``str.splitlines`` splits at, and what an editor may leave inside a prompt."""


def read(path: Path, content: str | bytes | None = None) -> tuple[RowFile | None, list[str]]:
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    faults: list[str] = []
    return read_rows(path, COLUMNS, faults), faults


def texts(path: Path, content: str | bytes, column: str = "prompt") -> list[str]:
    found, faults = read(path, content)
    assert found is not None, faults
    assert not faults, faults
    return [cells.text(column) for cells in found.rows]


@pytest.mark.parametrize("odd", ODD_SPACES, ids=ascii)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=ascii)
def test_a_line_ends_at_a_newline_and_nowhere_else(tmp_path, odd, end):
    lines = [f"a{odd}box", "a ball", f"b{odd}"]
    assert texts(tmp_path / "a.txt", end.join(lines)) == lines
    assert texts(tmp_path / "a.csv", end.join(["prompt", *lines])) == lines
    assert lines_of(end.join(lines)) == lines


def test_places_are_those_that_an_editor_shows(tmp_path):
    found, _ = read(tmp_path / "a.csv", 'prompt,seed\n"two\nlines",1\n\na box,2\n')
    assert found is not None
    assert [(cells.place, cells.line) for cells in found.rows] == [("line 2", 2), ("line 5", 5)]
    found, _ = read(tmp_path / "a.txt", "\na box\r\n\r\na ball")
    assert found is not None
    assert [cells.place for cells in found.rows] == ["line 2", "line 4"]


@pytest.mark.parametrize(
    ("header", "seed"),
    [
        ("prompt,seed", "1"),
        ("PROMPT,Seed", "1"),
        (" prompt , SEED", "1"),
        ("prompt,own_seed", "1"),
        ("prompt,Own Seed", "1"),
        ("prompt,OWN-seed", "1"),
        ('"prompt","seed"', "1"),
        ("\ufeffprompt,seed", "1"),
        ("prompt,seeds", ""),
    ],
)
def test_a_column_goes_by_several_spellings_in_csv_and_parquet(tmp_path, header, seed):
    assert texts(tmp_path / "a.csv", f"{header}\na box,1\n", "seed") == [seed]
    names = [name.strip('"\ufeff') for name in header.split(",")]
    pq.write_table(pa.table([["a box"], [1]], names=names), tmp_path / "a.parquet")
    found, faults = read(tmp_path / "a.parquet")
    assert found is not None
    assert not faults
    assert [cells.text("seed") for cells in found.rows] == [seed]
    assert (found.unread == ("seeds",)) == (not seed)


def test_of_two_spellings_the_better_is_read_and_the_other_named(tmp_path):
    found, _ = read(tmp_path / "a.csv", "seed,prompt,own_seed\n1,a box,2\n")
    assert found is not None
    assert found.rows[0].text("seed") == "2"
    assert found.unread == ("seed",)


def test_unread_columns_are_named_as_written(tmp_path):
    found, _ = read(tmp_path / "a.csv", ",Case_Number,prompt,Model \n0,7,a box,x\n")
    assert found is not None
    assert found.unread == ("Case_Number", "Model")


def test_rows_without_any_text_are_left_out_and_counted(tmp_path):
    found, faults = read(tmp_path / "a.csv", "prompt,seed\n\na box,1\n,\n , \n\t\nx,\n\n")
    assert found is not None
    assert not faults
    assert [cells.text("prompt") for cells in found.rows] == ["a box", "x"]
    assert found.blank_rows == 5


def test_a_table_with_tabs_is_read_by_its_ending(tmp_path):
    assert texts(tmp_path / "a.tsv", 'prompt\tseed\na box, red\t1\n"a\tb"\t2\n') == [
        "a box, red",
        "a\tb",
    ]


PROMPTS = pa.array(["a box", None])


@pytest.mark.parametrize(
    "prompts",
    [
        PROMPTS,
        PROMPTS.cast(pa.large_string()),
        PROMPTS.cast(pa.string_view()),
        PROMPTS.dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
def test_text_of_every_arrow_type_is_text(tmp_path, prompts):
    table = pa.table({"prompt": prompts, "seed": [1.0, float("nan")], "tags": [["x", "y"], []]})
    pq.write_table(table, tmp_path / "a.parquet")
    found, faults = read(tmp_path / "a.parquet")
    assert found is not None
    assert not faults
    assert dict(found.rows[0].values) == {"prompt": "a box", "seed": "1.0", "tags": "x,y"}
    assert found.blank_rows == 1, "a gap is no text, and neither is NaN"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"a box"]),
        pa.array([b"a box"], pa.large_binary()),
        pa.array([b"a box"]).dictionary_encode(),
        pa.array([b"abox"], pa.binary(4)),
        pa.array([["a box"]]),
        pa.array([{"text": "a box"}]),
        pa.array([[("a", "box")]], pa.map_(pa.string(), pa.string())),
        pa.array([0], pa.timestamp("s")),
    ],
    ids=lambda array: str(array.type),
)
def test_what_is_no_text_is_refused_as_a_prompt_and_ignored_elsewhere(tmp_path, column):
    pq.write_table(pa.table({"prompt": column}), tmp_path / "a.parquet")
    found, faults = read(tmp_path / "a.parquet")
    assert found is None
    assert len(faults) == 1
    assert "a.parquet: column prompt holds " in faults[0]
    pq.write_table(pa.table({"prompt": ["a box"], "image": column}), tmp_path / "b.parquet")
    found, faults = read(tmp_path / "b.parquet")
    assert found is not None
    assert not faults
    assert found.unread == ("image",)


def test_lists_hold_text_or_numbers(tmp_path):
    table = pa.table({"prompt": ["a box"], "tags": pa.array([[b"x"]])})
    pq.write_table(table, tmp_path / "a.parquet")
    assert "column tags holds list" in read(tmp_path / "a.parquet")[1][0]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.csv", "", "a.csv: is empty"),
        ("a.csv", "\n\n", "a.csv: is empty"),
        ("a.csv", "text\na\n", "a.csv: has no column prompt; its columns are: text"),
        ("a.csv", "prompt;seed\na;1\n", "has no column prompt; its columns are: prompt;seed"),
        ("a.csv", "prompt,Prompt\na,b\n", "a.csv: has column prompt 2 times: prompt, Prompt"),
        ("a.csv", "prompt,seed,SEED\na,1,1\n", "has column seed 2 times: seed, SEED"),
        ("a.csv", "prompt,seed\na\n", "a.csv, line 2: has 1 cells, the header 2"),
        ("a.csv", 'prompt\na\n"b\nc\n', "a.csv, line 3: is not CSV"),
        ("a.csv", b"prompt\r\na\r\ncaf\xe9\r\n", "a.csv, line 3: is not UTF-8 (byte 0xe9)"),
        ("a.csv", b"prompt\ra\rcaf\xe9\r", "a.csv, line 3: is not UTF-8 (byte 0xe9)"),
        ("a.csv", "prompt\na\n".encode("utf-16"), "a.csv, line 1: is not UTF-8 (byte 0xff)"),
        ("a.parquet", "prompt\na\n", "a.parquet: is not Parquet"),
        ("a.parquet", "", "a.parquet: is not Parquet"),
        ("a.json", "[]", "a.json: no format is given and the ending is not one of .csv, .parquet"),
    ],
)
def test_what_cannot_be_read_is_one_fault_with_its_place(tmp_path, name, content, fault):
    found, faults = read(tmp_path / name, content)
    assert len(faults) == 1
    assert fault in faults[0]
    assert found is None or not found.rows


def test_a_text_of_broken_utf8_in_parquet_is_a_fault(tmp_path):
    broken = pa.StringArray.from_buffers(
        1, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")
    )
    pq.write_table(pa.table({"prompt": broken}), tmp_path / "a.parquet")
    assert "a.parquet: is not Parquet" in read(tmp_path / "a.parquet")[1][0]


def test_an_absent_file_and_a_folder_say_so(tmp_path):
    assert "cannot be read (No such file" in read(tmp_path / "none.csv")[1][0]
    assert "cannot be read (No such file" in read(tmp_path / "none.parquet")[1][0]
    (tmp_path / "folder.csv").mkdir()
    assert "cannot be read (Is a directory)" in read(tmp_path / "folder.csv")[1][0]


def test_faults_of_rows_do_not_fill_the_screen(tmp_path):
    _, faults = read(tmp_path / "a.csv", "prompt,seed\n" + "a\n" * 500)
    assert len(faults) == 21
    assert faults[-1].endswith("480 more such rows")
