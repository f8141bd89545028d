"""`python -m research.arena`: measures open lines seed by seed, and draws docs/arena.md.

It can be stopped at any time and resumes: results are lines of docs/arena/results.jsonl.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from research.arena import page
from research.arena.defences import Places, defences
from research.arena.measure import Bench, key_of
from research.reemergence.lines import LINES as TUNED
from research.study import results
from research.study.world import World

RESULTS = Path(__file__).parents[2] / "docs" / "arena" / "results.jsonl"
TIMES = "times.jsonl"
app = typer.Typer(add_completion=False, no_args_is_help=False)


@app.command()
def main(
    seeds: Annotated[int, typer.Option(min=0, help="Training seeds of every defence.")] = 5,
    only: Annotated[str, typer.Option(help="Comma-separated defences; empty: all.")] = "",
    hours: Annotated[float, typer.Option(help="Start no line after this time; 0: none.")] = 0,
    root: Annotated[Path, typer.Option(help="The study's folder, with its adapters.")] = Path(
        "data/study"
    ),
    hardened: Annotated[
        Path | None, typer.Option(help="Folder of research.hardening; none: no such rows.")
    ] = None,
    guards: Annotated[
        Path | None, typer.Option(help="Data root with trained guards; none: no such rows.")
    ] = None,
    lines: Annotated[Path, typer.Option(help="File of the lines.")] = RESULTS,
    page_only: Annotated[bool, typer.Option(help="Only draw docs/arena.md.")] = False,
) -> None:
    """Measure what has no line yet, one seed after another, then draw docs/arena.md."""
    if not page_only:
        places = Places(hardened=hardened, guards=guards)
        _measure(World(root), places, seeds, only, hours, lines)
    _draw(lines)


def _draw(lines: Path) -> None:
    page.draw(results.read(lines), results.read(lines.with_name(TIMES)), results.read(TUNED))


def _measure(
    world: World, places: Places, seeds: int, only: str, hours: float, lines: Path
) -> None:
    console = Console(soft_wrap=True)
    bench = Bench(world)
    deadline = time.monotonic() + (hours * 3600 or float("inf"))
    wanted = [name for name in only.split(",") if name]
    for seed in range(seeds):
        for defence in defences(world.concepts, seed, places):
            if wanted and defence.name not in wanted:
                continue
            if key_of(defence, seed) in results.read(lines):
                continue
            if time.monotonic() > deadline:
                return
            started = time.monotonic()
            results.add(bench.line(defence, seed), lines)
            _draw(lines)
            console.print(f"seed {seed} {defence.name}: {time.monotonic() - started:.0f} s")
    _time(bench, places, wanted, lines)


def _time(bench: Bench, places: Places, wanted: Sequence[str], lines: Path) -> None:
    """Times of the first seed's defences that have a line; of no guard, which reads prompts first.

    A guard's contender is the base model, so its time here would be that of the base model.
    """
    times = lines.with_name(TIMES)
    timed = [one for one in defences(bench.world.concepts, 0, places) if not one.guard]
    for defence in timed:
        key = key_of(defence, 0)
        asked = not wanted or defence.name in wanted
        if asked and key in results.read(lines) and key not in results.read(times):
            results.add(bench.times(defence, 0), times)


if __name__ == "__main__":
    app()
