"""`alignguard import`: the audit as a table and as JSON, faults in a line each, no prompt shown."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alignguard_data.contracts.errors import ConfigError
from pipelines.cli.app import app
from tests.alignguard_data.importing.published import pair, prompt, write_csv, write_images
from tests.pipelines.cli.test_app import alignguard

TRAIN = [*pair(1, "Harrasment"), *pair(2, "hate"), *pair(2, "violence"), *pair(3)[:1]]
TEST = [prompt(pair(1)[0][0]), prompt("a field"), prompt("")]


@pytest.fixture
def files(tmp_path):
    train, test = (tmp_path / name for name in ("train.csv", "test.csv"))
    return [str(write_csv(train, TRAIN)), str(write_csv(test, TEST))]


def invoke(*arguments):
    return CliRunner().invoke(app, ["import", "coprov2", *arguments])


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def cells(output):
    """The cells of every row of the printed tables."""
    lines = [line for line in output.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_table_sums_every_row(files):
    done = invoke(*files)
    assert done.exit_code == 0, done.output
    rows = cells(done.output)
    counted = {row[0]: int(row[1]) for row in rows if len(row) == 3 and row[1].isdigit()}
    ends = ("pairs", "test prompts", "further categories", "one_sided", "empty_prompt")
    assert [counted[name] for name in ends] == [4, 2, 2, 1, 1]
    assert counted["total"] == len(TRAIN) + len(TEST) == sum(counted[name] for name in ends)
    assert counted["test rows word for word in train"] == 1
    assert counted["hate + violence"] == 1
    assert ["Harrasment", "2", "0", "harassment"] in rows


def test_no_prompt_is_printed(files):
    for options in ([], ["--json"]):
        assert "park" not in invoke(*files, *options).output


def test_json_is_the_audit_and_says_whether_anything_was_made(files, tmp_path):
    images = str(write_images(tmp_path / "images", TRAIN))
    first, again = (
        json.loads(invoke(*files, "--images", images, "--json").stdout) for _ in range(2)
    )
    assert (first.pop("made"), again.pop("made")) == (True, False)
    assert first == again
    assert first["rows"]["total"] == len(TRAIN) + len(TEST)
    assert first["images"] == {"found": 5, "imported": 4}
    manifest = json.loads((Path(first["folder"]) / "manifest.json").read_text())
    assert manifest["counts"].items() >= first["rows"].items()


def test_a_spelling_of_ones_own_is_taken(tmp_path):
    path = str(write_csv(tmp_path / "train.csv", pair(1, "Gore")))
    done = json.loads(invoke(path, "--category", "Gore=shocking", "--json").stdout)
    assert done["records_by_category"]["shocking"]["train"] == 1


def test_a_wrong_option_is_named(files):
    done = invoke(*files, "--category", "Gore")
    assert isinstance(done.exception, ConfigError)
    assert "'Gore' is not SPELLING=KEY" in str(done.exception)


def test_faults_are_lines_and_no_traceback(tmp_path, reduced):
    path = write_csv(tmp_path / "train.csv", [*pair(1, "Gore"), *pair(2, "Odd")])
    done = alignguard(tmp_path / "data", reduced, "import", "coprov2", str(path))
    assert done.returncode == 1
    assert "train.csv:2: 'Gore' (2 rows)" in done.stderr
    assert "train.csv:4: 'Odd' (2 rows)" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_teaches(tmp_path):
    done = CliRunner().invoke(app, ["import", "coprov2", "--help"])
    for word in ("--images", "--category", "--json", "u_idx_N_0.jpg", "audit.json"):
        assert word in done.output
