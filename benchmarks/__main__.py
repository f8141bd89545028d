"""`make bench`: side-by-side measurements as ratios, medians of five, appended to results.jsonl."""

import json
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from alignguard_data.storage.manifest import library_versions
from benchmarks import (
    duplicates,
    evaluation,
    first_run,
    growth,
    index,
    merging,
    orchestration,
    rehearsal,
    release,
    release_memory,
    render,
    scoring,
    speed_fields,
    training,
    training_memory,
    training_precision,
    writing,
)
from benchmarks.absent import Absent

RESULTS = Path(__file__).parent / "results.jsonl"
BENCHMARKS: dict[str, Callable[[int], dict[str, Any]]] = {
    "render": render.measure,
    "speed_fields": speed_fields.measure,
    "scoring": scoring.measure,
    "writing": writing.measure,
    "orchestration": orchestration.measure,
    "index": index.measure,
    "release": release.measure,
    "release_memory": release_memory.measure,
    "duplicates": duplicates.measure,
    "training": training.measure,
    "training_memory": training_memory.measure,
    "training_precision": training_precision.measure,
    "rehearsal": rehearsal.measure,
    "merging": merging.measure,
    "evaluation": evaluation.measure,
    "growth": growth.measure,
    "first_run": first_run.measure,
}


def main(
    only: Annotated[str, typer.Option(help=f"One of {', '.join(BENCHMARKS)}; empty: all.")] = "",
    runs: Annotated[int, typer.Option(min=1, help="Runs per side; medians are shown.")] = 5,
) -> None:
    """Measure, print, and append one line per benchmark to results.jsonl."""
    console = Console()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    table = Table("benchmark", "figure", "median")
    for name, measure in BENCHMARKS.items():
        if only and name != only:
            continue
        try:
            with console.status(f"{name}: {runs} runs"):
                figures = measure(runs)
        except Absent as missing:
            console.print(f"{name} was not measured: {missing}")
            continue
        for figure, value in figures.items():
            table.add_row(name, figure.replace("_", " "), f"{value:,.3g}")
        line = {
            "benchmark": name,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "runs": runs,
            "machine": f"{platform.machine()} {platform.system()}",
            "versions": library_versions(),
            "figures": figures,
        }
        with RESULTS.open("a") as handle:
            handle.write(json.dumps(line) + "\n")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
