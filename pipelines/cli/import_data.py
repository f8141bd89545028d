"""`alignguard import ...`: published datasets as our records, with an audit of every row."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from alignguard_data.contracts.errors import ConfigError
from pipelines.cli.console import Output, table
from pipelines.cli.options import Json, OwnProfile, OwnRoot

if TYPE_CHECKING:
    from alignguard_data.importing.coprov2.room import Imported

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Import a published dataset and audit it.",
)


@app.callback()
def group() -> None:
    """Import a published dataset and audit it."""


@app.command("coprov2")
def coprov2_command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="CSV...", help="Columns prompt,image,category; train and test."),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of u_idx_N_0.jpg and s_idx_N_0.jpg; pairs then need both."),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(
            help="Category spelling in your files, for example `Gore=shocking`; repeatable."
        ),
    ] = None,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Import the published CoProV2: `alignguard import coprov2 train.csv test.csv --images images`.

    The word train or test in a file's name decides its split; without one it is train if its images
    are named like train images. Rows u_idx_N_0.jpg and s_idx_N_0.jpg become one pair; test rows
    become evaluation prompts. Every row becomes part of a record or of the table `rejected` with a
    reason; nothing is dropped silently, and no prompt is printed.

    The result is a folder `imports/coprov2-ID` in the data root: pairs, origins, rejected, images
    and audit.json. Importing the same files again makes nothing.
    """
    from alignguard_data.importing.coprov2.room import import_coprov2
    from alignguard_data.storage.paths import DataRoot
    from pipelines.profile import load_profile
    from pipelines.resources import data_root

    data = DataRoot(root=data_root(), profile=load_profile().name)
    with _Bars() as bars:
        done = import_coprov2(
            data, files, images=images, categories=_spellings(category or []), stages=bars.begin
        )
    if as_json:
        found = {"folder": str(done.folder), "made": done.made, **done.audit}
        Output().json(found)
        return
    print_audit(Output(), done)


def print_audit(console: Output, done: "Imported") -> None:
    """The audit as tables: totals, reasons, category spellings, anomalies."""
    found = done.audit
    for shown in (_sums(found), _categories(found), _oddities(found)):
        console.print(shown)
    state = "imported" if done.made else "already imported; nothing made"
    console.say(f"{done.folder} {state}")


def _sums(found: dict[str, Any]) -> Table:
    from alignguard_data.importing.coprov2.pairs import REASONS

    rows = found["rows"]
    shown = _table("All rows", "became", "rows", "meaning")
    shown.add_row("pairs", f"{2 * rows['pairs']:,}", f"{rows['pairs']:,} pairs, two rows each")
    shown.add_row("test prompts", f"{rows['test_prompts']:,}", "evaluation prompts, no twin")
    shown.add_row("further categories", f"{rows['further_category_rows']:,}", "of a counted record")
    for reason, count in found["reasons"].items():
        shown.add_row(reason, f"{count:,}", REASONS[reason], style="yellow")
    shown.add_section()
    parts = f"train {rows['train']:,}, test {rows['test']:,}"
    shown.add_row("total", f"{rows['total']:,}", parts, style="bold")
    return shown


def _categories(found: dict[str, Any]) -> Table:
    shown = _table("Rows by category as spelt", "spelling", "train", "test", "our key")
    for row in found["rows_by_category"]:
        keys = ", ".join(row["categories"]) or "-"
        shown.add_row(row["spelling"] or "(empty)", f"{row['train']:,}", f"{row['test']:,}", keys)
    return shown


def _oddities(found: dict[str, Any]) -> Table:
    leaked, several = found["leaked_test_rows"], found["multi_category"]
    one_sided, images = found["one_sided_pairs"], found["images"]
    shown = _table("Anomalies", "what", "number", "")
    shown.add_row(
        "test rows word for word in train", f"{leaked['exact']:,}", f"of {leaked['of']:,}"
    )
    shown.add_row("  in whatever case", f"{leaked['casefolded']:,}", f"of {leaked['of']:,}")
    shown.add_row("pairs of several categories", f"{several['pairs']:,}", "")
    shown.add_row("test prompts of several categories", f"{several['test_prompts']:,}", "")
    for combination, count in several["by_combination"].items():
        shown.add_row(f"  {combination}", f"{count:,}", "")
    for name, count in one_sided.items():
        shown.add_row(f"pairs, {name.replace('_', ' ')}", f"{count:,}", "")
    for name, counts in found["duplicate_prompts"].items():
        where = "rows" if name == "test" else "pairs"
        shown.add_row(
            f"repeated prompts, {name.replace('_', ' ')}",
            f"{counts['prompts']:,}",
            f"in {counts['places']:,} {where}",
        )
    if images:
        shown.add_row("images imported", f"{images['imported']:,}", f"of {images['found']:,} found")
    return shown


def _table(title: str, *columns: str) -> Table:
    shown = table(*columns, title=title)
    for column in shown.columns:
        if column.header in ("rows", "train", "test", "number"):
            column.justify = "right"
    return shown


def _spellings(options: list[str]) -> dict[str, str]:
    wrong = [option for option in options if "=" not in option]
    if wrong:
        raise ConfigError("--category", [f"{option!r} is not SPELLING=KEY" for option in wrong])
    parts = (option.rpartition("=") for option in options)
    return {spelling: key.strip() for spelling, _, key in parts}


class _Bars:
    """One progress bar per stage on standard error; none if that is not a terminal."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Output(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip

    def begin(self, name: str, total: int) -> Callable[[int], object]:
        task = self._progress.add_task(name, total=total)
        return lambda units: self._progress.advance(task, units)

    def __enter__(self) -> "_Bars":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
