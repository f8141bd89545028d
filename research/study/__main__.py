"""`make study`: runs what is still open, side by side on the cores there are, and draws the page.

It can be stopped at any time, by Ctrl-C, a kill or --hours, and goes on from there: results are
lines in docs/study/results.jsonl, which travels with the repository.
"""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from research.study import page, results
from research.study.side_by_side import run, world_at
from research.study.trials import EXPERIMENTS, all_trials

app = typer.Typer(add_completion=False, no_args_is_help=False)


@app.command()
def main(
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds of every arm.")] = 5,
    only: Annotated[str, typer.Option(help=f"One of {', '.join(EXPERIMENTS)}; empty: all.")] = "",
    processes: Annotated[int, typer.Option(min=1, help="Trials side by side.")] = 2,
    hours: Annotated[float, typer.Option(help="Start nothing after so long; 0: no limit.")] = 0,
    root: Annotated[
        Path, typer.Option(help="Where pairs and adapters are kept between runs.")
    ] = Path("data/study"),
    page_only: Annotated[bool, typer.Option(help="Draw docs/study.md from what is there.")] = False,
) -> None:
    """Run the open trials of the study, then draw docs/study.md with its plots."""
    console = Console()
    world = world_at(root)
    if only and only not in EXPERIMENTS:
        raise typer.BadParameter(f"{only!r} is none of {', '.join(EXPERIMENTS)}", param_hint="only")
    deadline = time.monotonic() + (hours * 3600 or float("inf"))
    before = -1
    while True:  # some trials are known only when others have chosen
        known = results.read()
        trials = [t for t in all_trials(world.concepts, seeds, known) if only in ("", t.experiment)]
        todo = [trial for trial in trials if trial.key not in known]
        console.print(f"{len(trials)} trials, {len(trials) - len(todo)} of them done")
        if page_only or not todo or len(known) == before or time.monotonic() > deadline:
            break
        before = len(known)
        world.encoded([world.concepts[0].key])  # the pairs, before two processes want them
        run(root, todo, processes, deadline - time.monotonic(), console)
    page.draw(known, all_trials(world.concepts, seeds, known))
    console.print("docs/study.md is drawn from what is there")


if __name__ == "__main__":
    app()
