"""Reading the CSV files: every row with its line, every fault by file and line."""

import pandas as pd
import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.importing.coprov2.files import read_files
from tests.alignguard_data.importing.published import pair, prompt, write_csv


def faults_of(*paths):
    with pytest.raises(ConfigError) as raised:
        read_files(paths)
    return raised.value.faults


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_row_knows_its_number_and_its_line(tmp_path):
    text = 'prompt,image,category\n"a bar\nin a park",,hate\n\na field,,hate\n'
    (file,) = read_files([written(tmp_path / "test.csv", text)])
    assert [(row.row, row.line) for row in file.rows] == [(1, 2), (2, 5)]
    assert file.blank_lines == 1


def test_columns_may_stand_in_any_order_with_others_between(tmp_path):
    text = "\ufeffID,Category,Prompt,image\n1,hate,a park,x.jpg\n"
    (file,) = read_files([written(tmp_path / "test.csv", text)])
    (row,) = file.rows
    assert (row.prompt, row.image, row.category) == ("a park", "x.jpg", "hate")
    assert file.ignored_columns == ("ID",)


def test_missing_columns_are_all_named(tmp_path):
    path = written(tmp_path / "a.csv", "prompt,picture\na park,x\n")
    assert faults_of(path) == (
        f"{path}: has no column image, category; its columns are: prompt, picture",
    )


def test_a_duplicate_column_is_named(tmp_path):
    path = written(tmp_path / "a.csv", "prompt,image,category,Prompt\n")
    assert faults_of(path) == (f"{path}: has column prompt 2 times: prompt, Prompt",)


def test_what_is_not_utf8_is_named_by_its_line(tmp_path):
    path = written(tmp_path / "a.csv", b"prompt,image,category\na park,,hate\na caf\xe9,,hate\n")
    assert faults_of(path) == (f"{path}, line 3: is not UTF-8 (byte 0xe9)",)


def test_an_unbalanced_quote_is_named_by_the_line_that_opens_it(tmp_path):
    text = 'prompt,image,category\na park,,hate\n"a bar,,hate\na field,,hate\n'
    path = written(tmp_path / "a.csv", text)
    (fault,) = faults_of(path)
    assert fault.startswith(f"{path}, line 3: is not CSV")


def test_rows_of_another_width_are_all_named(tmp_path):
    path = written(tmp_path / "a.csv", "prompt,image,category\na,b\na,,hate\na,b,c,d\n")
    assert faults_of(path) == (
        f"{path}, line 2: has 2 cells, the header 3",
        f"{path}, line 4: has 4 cells, the header 3",
    )


def test_a_table_in_parquet_is_read_alike(tmp_path):
    text = "prompt,image,category\na park,x.jpg,hate\n"
    (table,) = read_files([written(tmp_path / "test.csv", text)])
    frame = pd.DataFrame({"category": ["hate"], "image": ["x.jpg"], "Prompt": ["a park"]})
    frame.to_parquet(tmp_path / "test.parquet")
    (parquet,) = read_files([tmp_path / "test.parquet"])
    (one,), (other,) = table.rows, parquet.rows
    assert (one.prompt, one.image, one.category) == (other.prompt, other.image, other.category)


def test_faults_of_every_file_come_at_once(tmp_path):
    empty, gone = written(tmp_path / "a.csv", ""), tmp_path / "gone.csv"
    found = faults_of(empty, gone)
    assert len(found) == 2
    assert "cannot be read" in found[-1]


def test_faults_do_not_fill_the_screen(tmp_path):
    path = written(tmp_path / "a.csv", "prompt,image,category\n" + "a,b\n" * 500)
    found = faults_of(path)
    assert len(found) == 21
    assert found[-1].endswith("480 more such rows")


@pytest.mark.parametrize(
    ("name", "rows", "part"),
    [
        ("CoProv2_test.csv", pair(1), "test"),
        ("CoProv2_train.csv", [prompt("a park")], "train"),
        ("latest.csv", pair(1), "train"),
        ("latest.csv", [prompt("a park", image="7.jpg")], "test"),
    ],
)
def test_the_word_in_a_name_decides_its_part_and_without_one_the_rows_do(
    tmp_path, name, rows, part
):
    (file,) = read_files([write_csv(tmp_path / name, rows)])
    assert file.part == part


def test_the_order_of_the_files_does_not_matter(tmp_path):
    one = write_csv(tmp_path / "test.csv", [prompt("a park")])
    two = write_csv(tmp_path / "train.csv", pair(1))
    assert read_files([one, two]) == read_files([two, one])
