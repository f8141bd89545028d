"""Text of models, servers and files goes through each command as it is: it is never markup."""

import io
import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.index.pair_history import PairHistory
from alignguard_data.scores.thresholds import Bounded, Calibration
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.planning import Cost
from pipelines.cli import (
    app,
    calibrate,
    doctor,
    import_data,
    last_net,
    plan,
    report,
    run,
    show,
    sql,
    status,
)
from pipelines.cli.check import Check
from pipelines.cli.console import Output, styled, table, visible
from pipelines.runtime import driver
from pipelines.runtime.plan import RoomPlan
from tests.alignguard_data.tiny_rooms import TinyRooms

FOREIGN = "[/INST] [bold] [dog:cat:0.5] [llm] [/] :smile: \\[x] {y} 50%"
ESCAPES = "\x1b[31mred\x07\x9b2J"


def run_failure(console, patch, folder):
    failed = driver.RunReport(made={}, failures={"prompts lines.bar": FOREIGN})
    patch.setattr(run, "run_rooms", lambda *_: failed)
    run.run_command(console, "prompts")


def plan_table(console, patch, folder):
    due = RoomPlan(
        room="prompts",
        partitions=1,
        to_make=["a"],
        reasons={FOREIGN: 1},
        cost=Cost(seconds=None, bytes=None, basis="-"),
    )
    patch.setattr(plan, "plan_rooms", lambda _: [due])
    plan.plan_command(console, gpu=None, peak_share=0.4, as_json=False)


def status_fault(console, patch, folder):
    patch.setattr(status, "corrupt_partitions", lambda _: {("prompts", "all"): [FOREIGN]})
    status.status_command(console, as_json=False, verify=True)


def status_table(console, patch, folder):
    patch.setattr(status, "room_states", lambda *_: {FOREIGN: "missing"})
    status.status_command(console, as_json=False, verify=False)


def sql_cell(console, patch, folder):
    data = TinyRooms(folder / "tiny").fill("index").data
    patch.setattr(sql, "DataRoot", lambda **_: data)
    sql.sql_command(console, f"SELECT '{FOREIGN}' AS it", out=None, as_json=False)


def sql_column(console, patch, folder):
    data = TinyRooms(folder / "tiny").fill("index").data
    patch.setattr(sql, "DataRoot", lambda **_: data)
    sql.sql_command(console, f'SELECT 1 AS "{FOREIGN}"', out=None, as_json=False)


def show_prompt(console, patch, folder):
    score = {"side": "safe", "scorer": "s", "key": FOREIGN, "value": 1.0, "at_least": 0.5}
    lineage = {"pair_id": "0" * 32, "unsafe_prompt": FOREIGN}
    history = PairHistory(lineage=lineage, scores=[score], releases=[], adapters=[])
    patch.setattr(show, "load_pair_history", lambda *_: history)
    patch.setattr(show, "pair_picture", lambda *_, **__: None)
    show.show_command(console, "0", out=None, reveal=False, as_json=False)


def report_table(console, patch, folder):
    number = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    sides = {"unsafe": number, "safe": number}
    summary = {
        "ip": {"base": sides, "experts": {FOREIGN: sides}, "merged": sides},
        "preservation": {FOREIGN: {FOREIGN.replace("_", " "): number}},
        "seconds": {FOREIGN: 1},
        "release": FOREIGN,
        "adapter": FOREIGN,
        "report": FOREIGN,
    }
    file = folder / "t" / "evaluation" / "summary.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(summary))
    report.print_summary(console, DataRoot(root=folder, profile="t"))


def doctor_table(console, patch, folder):
    wrong = Check(what=FOREIGN, state="missing", found=FOREIGN, fix=FOREIGN)
    patch.setattr(doctor, "examine", lambda: [wrong])
    doctor.doctor_command(console, as_json=False)


def calibrate_table(console, patch, folder):
    half = Bounded(value=0.5, low=0.4, high=0.6)
    curve = (np.zeros(1), np.zeros(1))
    found = Calibration(
        scorer=FOREIGN, key="k", version="1", images=2, unsafe=1, roc_auc=half,
        average_precision=half, threshold=None, roc=curve, precision_recall=curve,
    )  # fmt: skip
    console.print(calibrate._table([found], 0.9))


def import_audit(console, patch, folder):
    row = {"spelling": FOREIGN, "categories": [FOREIGN], "train": 1, "test": 0}
    numbers: Any = defaultdict(int)
    audit: Any = {
        "rows": numbers, "reasons": {}, "rows_by_category": [row], "leaked_test_rows": numbers,
        "multi_category": {"pairs": 0, "test_prompts": 0, "by_combination": {FOREIGN: 1}},
        "one_sided_pairs": {}, "images": None, "duplicate_prompts": {},
    }  # fmt: skip
    done: Any = SimpleNamespace(audit=audit, made=True, folder=Path(FOREIGN))
    import_data.print_audit(console, done)


@pytest.mark.parametrize("command", [
    run_failure, plan_table, status_fault, status_table, sql_cell, sql_column, show_prompt,
    report_table, doctor_table, calibrate_table, import_audit,
])  # fmt: skip
def test_foreign_text_is_printed_as_it_is(command, monkeypatch, tmp_path, reduced):
    monkeypatch.setenv("ALIGNGUARD_PROFILE", str(reduced))
    console = Output(file=io.StringIO())
    command(console, monkeypatch, tmp_path)
    assert isinstance(console.file, io.StringIO)
    assert FOREIGN in console.file.getvalue()


@pytest.mark.parametrize("arguments", [
    ["release", "show", FOREIGN], ["release", "verify", FOREIGN], ["release", "diff", FOREIGN, "x"],
    ["release", "export", FOREIGN], ["release", "push", "hf://a/b", FOREIGN, "--dry-run"],
    ["run", "--until", FOREIGN], ["status", "--profile", f"{FOREIGN}.yaml"],
    ["plan", "--gpu", FOREIGN], ["show", FOREIGN], ["sql", FOREIGN, "--out", "x.csv"],
    ["calibrate", FOREIGN], ["import", "coprov2", FOREIGN], ["no", FOREIGN], ["status", FOREIGN],
    ["release", "list", FOREIGN], ["release", "withdraw", FOREIGN, "--reason", FOREIGN],
], ids=lambda arguments: "-".join(arguments[:2]))  # fmt: skip
def test_a_foreign_argument_ends_in_a_clear_line(arguments, monkeypatch, tmp_path, capsys, reduced):
    """The exit is 1 or 2 (usage), with words and no exception of another kind."""
    monkeypatch.setenv("ALIGNGUARD_PROFILE", str(reduced))
    monkeypatch.setattr("sys.argv", ["alignguard", *arguments])
    ended: list[int] = []

    def exit_now(code: int) -> None:
        ended.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(last_net, "exit_now", exit_now)
    with pytest.raises(SystemExit):
        app.main()
    assert ended[0] in (1, 2)
    assert capsys.readouterr().err.strip()


def test_an_errors_text_is_printed_as_it_is(monkeypatch, capsys):
    def refused() -> None:
        raise EngineError(f"the server said {FOREIGN} {ESCAPES}")

    monkeypatch.setattr(last_net, "exit_now", lambda code: None)
    last_net.guarded(refused)
    printed = capsys.readouterr().err
    assert f"the server said {FOREIGN}" in printed
    assert "\x1b[31mred" not in printed
    assert "\\x1b[31mred\\x07\\x9b2J" in printed


def test_help_is_no_rich_markup():
    """Typer's default for a group is rich's markup, which would eat `[llm]`."""
    groups = [app.app, *(group.typer_instance for group in app.app.registered_groups)]
    assert {str(group.info.name): group.rich_markup_mode for group in groups if group} == {
        str(group.info.name): "markdown" for group in groups if group
    }
    assert len(groups) >= 5


def test_escape_sequences_do_not_reach_a_terminal():
    console = Output(file=io.StringIO(), force_terminal=True, color_system=None, width=200)
    cells = table("it", title=ESCAPES)
    cells.add_row(ESCAPES)
    console.print(cells)
    console.print(ESCAPES)
    console.say(ESCAPES, (ESCAPES, "red"))
    console.json({"it": ESCAPES})
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "red" in printed
    assert not set("\x1b\x07\x9b") & set(printed)


def test_only_our_own_parts_are_styled():
    whole = styled(("done", "green"), f" {FOREIGN}")
    assert whole.plain == f"done {FOREIGN}"
    assert [(span.start, span.end, span.style) for span in whole.spans] == [(0, 4, "green")]
    assert visible("a\tb\nc") == "a\tb\nc"


def test_every_command_prints_through_our_console():
    """Rich's own console takes brackets for markup."""
    package = Path(app.__file__).parents[1]
    found = [path.name for path in package.rglob("*.py") if "rich.console" in path.read_text()]
    assert found == ["console.py"]
