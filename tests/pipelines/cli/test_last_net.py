"""At the edge: a fault that a user can mend is a clear line, output fits where it goes."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignguard_data.contracts.errors import ConfigError, EngineError, InputMissing, IntegrityError
from alignguard_data.index.sql import QueryFailed, query
from alignguard_data.release.changes import published_diff as diff
from alignguard_data.release.room import list_releases
from alignguard_data.storage.paths import DataRoot
from pipelines.cli import last_net
from pipelines.cli.calibrate import calibrate_command
from pipelines.cli.console import Output, table
from pipelines.cli.report import read_summary
from pipelines.cli.show import show_command
from tests.alignguard_data.tiny_rooms import TinyRooms
from tests.conftest import command_environment


class Left(Exception):
    """Raised in place of the end of the process."""


@pytest.fixture
def guarded(monkeypatch):
    """Runs a function under the net; its exit code."""

    def exit_now(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(last_net, "exit_now", exit_now)
    monkeypatch.setattr("sys.argv", ["alignguard", "status"])

    def run(function: Any) -> int:
        with pytest.raises(Left) as ended:
            last_net.guarded(function)
        return ended.value.args[0]

    return run


def raising(error: BaseException) -> Any:
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize("number", [
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT,
    errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.EADDRINUSE,
])  # fmt: skip
def test_a_fault_of_the_system_is_one_line_with_the_file(number, guarded, capsys):
    error = OSError(number, os.strerror(number), "/a/[file]")
    assert guarded(raising(error)) == 1
    assert capsys.readouterr().err == f"alignguard: /a/[file]: {os.strerror(number)}\n"


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError("no number")])
def test_a_fault_of_ours_keeps_its_traceback(error, monkeypatch):
    monkeypatch.setattr(last_net, "exit_now", lambda code: None)
    with pytest.raises(type(error)):
        last_net.guarded(raising(error))


def test_an_error_is_json_too_where_json_was_asked_for(guarded, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["alignguard", "status", "--json"])
    assert guarded(raising(EngineError("no [llm]"))) == 1
    assert json.loads(capsys.readouterr().out) == {"error": "no [llm]", "kind": "EngineError"}


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(130)])
def test_an_interruption_says_that_the_next_run_goes_on(end, guarded, capsys):
    assert guarded(raising(end)) == 130
    assert "the next run resumes" in capsys.readouterr().err


def test_a_closed_pipe_is_no_fault(guarded, capsys):
    assert guarded(raising(BrokenPipeError())) == 1
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> TinyRooms:
    return TinyRooms(tmp_path_factory.mktemp("filled")).fill("release")


def command(root: Path, profile: Path, line: str, **changes: str):
    """`alignguard` in a shell, as a user pipes it."""
    environment = {**command_environment(root, profile), **changes}
    return subprocess.run(
        f"{sys.executable} -m pipelines.cli {line}",
        shell=True, executable="/bin/bash", env=environment, capture_output=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_that_lacks_characters_gets_a_readable_replacement(encoding, tmp_path, reduced):
    root = tmp_path / "ünïcödé 雪"
    done = command(root, reduced, "release show nothing; $0", PYTHONIOENCODING=encoding)
    message = done.stderr.decode(encoding)
    assert "Traceback" not in message
    assert "no release nothing in" in message
    done = command(root, reduced, "status --json", PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout.decode(encoding))["faults"] == {}
    done = command(root, reduced, "plan", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert b"never made" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_marks_and_json_fit_the_encoding(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    console = Output(file=stream)
    console.say(console.mark(True), console.mark(False))
    console.json({"é": float("nan")})
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert text.splitlines()[0] == ("okx" if encoding == "ascii" else "✓✗")
    assert json.loads(text.partition("\n")[2]) == {"é": None}


def test_a_full_device_and_a_closed_pipe_end_without_a_traceback(tmp_path, reduced):
    done = command(tmp_path / "data", reduced, "plan > /dev/full")
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    done = command(tmp_path / "data", reduced, "plan --json | true")
    assert done.stderr == b""


def test_tables_in_a_pipe_are_as_wide_as_they_need(filled):
    columns, rows = query(filled.data, "select * from lineage")
    shown, stream = table(*columns), io.StringIO()
    for row in rows:
        shown.add_row(*map(str, row))
    Output(file=stream).print(shown)
    lines = stream.getvalue().splitlines()
    assert len(lines) == len(rows) + 4  # not one line is folded
    for row in rows:
        assert sum(row[0] in line and row[6] in line for line in lines) == 1


def test_a_narrow_terminal_folds_and_cuts_nothing():
    stream = io.StringIO()
    shown = table("id", "other")
    shown.add_row("0123456789abcdef" * 4, "x")
    Output(file=stream, force_terminal=True, color_system=None, width=30).print(shown)
    cells = [line.split("│")[1].strip() for line in stream.getvalue().splitlines() if "│" in line]
    assert "".join(cells) == "0123456789abcdef" * 4


@pytest.mark.parametrize("name", ["x.png", "x", "x.csv", "labels.csv", "x.yaml.png"])
def test_thresholds_go_to_a_yaml_file_alone(name, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,label\na,1\n")
    with pytest.raises(ConfigError, match="--out"):
        calibrate_command(
            Output(), labels, precision=0.9, every_score=False, out=tmp_path / name, as_json=False
        )
    assert labels.read_text() == "image_id,label\na,1\n"
    assert list(tmp_path.glob("x*")) == []


def test_a_picture_goes_to_a_png_alone(tmp_path):
    with pytest.raises(ConfigError, match="--out"):
        show_command(Output(), "0", out=tmp_path / "x.yaml", reveal=False, as_json=False)


def truncated(folder: Path) -> None:
    file = next(folder.glob("data/train-*.parquet"))
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:100])


def other_bytes(folder: Path) -> None:
    """As long as before, and no Parquet."""
    file = next(folder.glob("data/train-*.parquet"))
    file.chmod(0o600)
    file.write_bytes(b"x" * file.stat().st_size)


def missing(folder: Path) -> None:
    next(folder.glob("data/test-*.parquet")).unlink()


def no_data(folder: Path) -> None:
    for file in folder.glob("data/*"):
        file.unlink()


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def broken_manifest(folder: Path) -> None:
    (folder / "manifest.json").chmod(0o600)
    (folder / "manifest.json").write_bytes(b"\xff{")


@pytest.mark.parametrize(
    "damage", [truncated, other_bytes, missing, no_data, no_manifest, broken_manifest]
)
def test_a_damaged_release_is_named_by_diff(damage, filled, tmp_path):
    whole = list_releases(filled.data)[-1]
    folder = Path(shutil.copytree(whole, tmp_path / "copy"))  # type: ignore[arg-type]
    assert diff(whole, folder) == []
    damage(folder)
    for old, new in ((whole, folder), (folder, whole)):
        with pytest.raises(IntegrityError, match=str(tmp_path)):
            diff(old, new)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"{}", b"[]", b"3", b"null", b'{"adapter": 1, "report": 2}']
)
def test_a_damaged_summary_is_named_by_report(content, tmp_path):
    data = DataRoot(root=tmp_path, profile="p")
    (tmp_path / "p" / "evaluation").mkdir(parents=True)
    (tmp_path / "p" / "evaluation" / "summary.json").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"summary\.json"):
        read_summary(data)


@pytest.mark.parametrize("kept", [0, 1000, 5000])
def test_a_damaged_index_is_named(kept, tmp_path):
    data = TinyRooms(tmp_path).fill("index").data
    (file,) = (tmp_path / "tiny" / "index").rglob("*.duckdb")
    whole = file.read_bytes()
    file.write_bytes(whole[:kept] + b"\x5a" * (len(whole) - kept))
    with pytest.raises((IntegrityError, InputMissing, QueryFailed), match="index"):
        query(data, "select * from coverage")


def test_ctrl_c_ends_a_run_in_a_line(tmp_path, reduced):
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "run"],
        env=command_environment(tmp_path / "data", reduced),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("prompts:"):
            break
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the next run resumes" in message
    assert "Traceback" not in message
