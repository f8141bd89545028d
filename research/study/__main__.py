"""`make study`: runs open trials in parallel and draws the page.

It can be stopped at any time (Ctrl-C, kill, --hours) and resumes: results are lines of
docs/study/results.jsonl in the repository.
"""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from research.study import page, results
from research.study.side_by_side import run, world_at, world_of
from research.study.trials import EXPERIMENTS, all_trials

app = typer.Typer(add_completion=False, no_args_is_help=False)


@app.command()
def main(
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds of every arm.")] = 5,
    only: Annotated[str, typer.Option(help=f"One of {', '.join(EXPERIMENTS)}; empty: all.")] = "",
    processes: Annotated[int, typer.Option(min=1, help="Parallel trials.")] = 2,
    hours: Annotated[float, typer.Option(help="Start no trial after this time; 0: no limit.")] = 0,
    root: Annotated[Path, typer.Option(help="Folder for pairs and adapters between runs.")] = Path(
        "data/study"
    ),
    page_only: Annotated[
        bool, typer.Option(help="Only draw docs/study.md from existing results.")
    ] = False,
) -> None:
    """Run the open trials of the study, then draw docs/study.md with its plots."""
    console = Console()
    world = world_at(root)
    if only and only not in EXPERIMENTS:
        raise typer.BadParameter(f"{only!r} is none of {', '.join(EXPERIMENTS)}", param_hint="only")
    deadline = time.monotonic() + (hours * 3600 or float("inf"))
    before = -1
    while True:  # some trials depend on the choices of others
        known = results.read()
        trials = [t for t in all_trials(world.concepts, seeds, known) if only in ("", t.experiment)]
        todo = [trial for trial in trials if trial.key not in known]
        console.print(f"{len(trials)} trials, {len(trials) - len(todo)} of them done")
        if page_only or not todo or len(known) == before or time.monotonic() > deadline:
            break
        before = len(known)
        for one in {world_of(root, trial.measured[0], trial.model) for trial in todo}:
            one.encoded([one.concepts[0].key])  # makes the pairs before processes share them
        run(root, todo, processes, deadline - time.monotonic(), console)
    page.draw(known, all_trials(world.concepts, seeds, known))
    console.print("docs/study.md is drawn from existing results")


if __name__ == "__main__":
    app()
