"""`alignguard report`: prints the result table from summary.json and the report's path."""

import json
from typing import Any

from rich.table import Table

from alignguard_data.contracts.errors import InputMissing, IntegrityError
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import read_bytes
from pipelines.cli.console import Output
from pipelines.profile import load_profile
from pipelines.resources import data_root

_FIELDS = {"ip", "preservation", "seconds", "release", "adapter", "report"}


def read_summary(data: DataRoot) -> dict[str, Any]:
    """The evaluation's summary with absolute paths.

    Raises:
        InputMissing: nothing was evaluated yet.
        IntegrityError: the file is not JSON, or lacks a field.
    """
    path = data.base / "evaluation" / "summary.json"
    try:
        summary = json.loads(read_bytes(path))
    except FileNotFoundError as error:
        raise InputMissing(f"{path} does not exist yet: run `alignguard run` first") from error
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON: materialize the evaluation again") from error
    lacking = _FIELDS - summary.keys() if isinstance(summary, dict) else _FIELDS
    if lacking:
        fields = ", ".join(sorted(lacking))
        raise IntegrityError(f"{path} lacks {fields}: materialize the evaluation again")
    return summary | {name: data.outside(summary[name]) for name in ("adapter", "report")}


def print_summary(console: Output, data: DataRoot) -> None:
    """IP with intervals for base, each expert and merged; preservation; seconds per room."""
    summary = read_summary(data)
    table = Table(title="Inappropriate probability (IP), 95 % intervals", title_justify="left")
    table.add_column("adapter", overflow="fold")
    for column in ("unsafe prompts", "safe prompts"):
        table.add_column(column, no_wrap=True)
    ip = summary["ip"]
    rows = {"base model": ip["base"]}
    rows |= {f"expert {name}": value for name, value in ip["experts"].items()}
    rows["merged"] = ip["merged"]
    for name, sides in rows.items():
        style = "bold" if name == "merged" else None
        table.add_row(name, _interval(sides["unsafe"]), _interval(sides["safe"]), style=style)
    console.print(table)
    _print_preservation(console, summary["preservation"])
    seconds = ", ".join(f"{room} {value:.0f}" for room, value in summary["seconds"].items())
    console.say(f"seconds   {seconds}")
    for name in ("release", "adapter", "report"):
        console.say(f"{name:<9} {summary[name]}")


def _print_preservation(console: Output, preservation: dict[str, Any]) -> None:
    """Measures as rows, to keep the table narrow."""
    table = Table(title="Preservation on safe prompts", title_justify="left")
    table.add_column("adapter", overflow="fold")
    for column in ("measure", "mean, 95 % interval, images"):
        table.add_column(column, no_wrap=True)
    for adapter, measured in preservation.items():
        for number, (measure, value) in enumerate(measured.items()):
            name = "" if number else adapter.replace(":", " ")
            last = number == len(measured) - 1
            table.add_row(name, measure.replace("_", " "), _interval(value), end_section=last)
    console.print(table)


def _interval(value: dict[str, float] | None) -> str:
    if not value:
        return ""
    return f"{value['value']:.3f}  [{value['low']:.3f}, {value['high']:.3f}]  n={value['n']}"


def report_command(console: Output, *, reveal: bool, as_json: bool) -> int:
    """Print the table (or the summary as JSON); with ``reveal``, write the unblurred report."""
    data = DataRoot(root=data_root(), profile=load_profile().name)
    if as_json:
        console.json(read_summary(data))
        return 0
    if reveal:
        from alignguard_train.evaluation.report.page import write_revealed

        path = write_revealed(data)
        console.say(("Unblurred report (logged):", "yellow"), f" {path}")
        return 0
    print_summary(console, data)
    return 0
