"""Measures what benign fine-tuning brings back on the stand-in, seed by seed, then draws the page.

    python -m research.reemergence --root data --seeds 5

It reads a finished run of the stand-in profile (`make run`) and adds lines to
docs/study/reemergence.jsonl; it can be stopped at any time and resumes at the step.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from alignguard_data.storage import manifest as manifests
from alignguard_train.reemergence.config import ReemergenceConfig
from alignguard_train.reemergence.room import measure_reemergence
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.room_inputs import tuned_models
from research.reemergence.lines import LINES, key_of, lines_of
from research.study import results

app = typer.Typer(add_completion=False)
CONDITIONS: dict[str, dict[str, Any]] = {
    "own images": {},
    "upside down": {"benign": {"style": "upside-down"}},
}
"""Changes of the profile's section by condition."""


@app.command()
def main(
    root: Annotated[Path, typer.Option(help="Data of a finished run of the stand-in.")] = Path(
        "data"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Fine-tunings of every variant.")] = 5,
    condition: Annotated[str, typer.Option(help=f"One of {', '.join(CONDITIONS)}.")] = "own images",
    page_only: Annotated[bool, typer.Option(help="Only draw the page from the lines.")] = False,
) -> None:
    """Measure the open seeds, then draw docs/reemergence.md."""
    console = Console()
    if not page_only:
        engines = Engines(load_profile("standin"), root)
        config = _config(engines.profile.reemergence, condition)
        for seed in range(seeds):
            known = results.read(LINES)
            last = {"adapter": "merged", "variant": config.variants[-1], "seed": seed}
            if key_of(condition, {**last, "steps": config.steps[-1]}) in known:
                continue
            for line in _measured(engines, config, condition, seed):
                if line["key"] not in known:
                    results.add(line, LINES)
            console.print(f"{condition}, seed {seed}: done")
    from research.reemergence.page import draw

    draw(results.read(LINES))
    console.print("docs/reemergence.md is drawn from the lines")


def _config(own: ReemergenceConfig, condition: str) -> ReemergenceConfig:
    changes = dict(CONDITIONS[condition])
    if "benign" in changes:
        changes["benign"] = dataclasses.replace(own.benign, **changes["benign"])
    return dataclasses.replace(own, **changes)


def _measured(
    engines: Engines, config: ReemergenceConfig, condition: str, seed: int
) -> list[dict[str, Any]]:
    key = f"{condition.replace(' ', '-')}-seed-{seed}"
    own = dataclasses.replace(config, seeds=(seed,))
    measure_reemergence(engines.data, tuned_models(engines, own), own, key=key)
    folder = engines.data.partition("reemergence", key)
    tables = {
        name: manifests.read(folder, name).to_pylist() for name in ("images", "losses", "models")
    }
    return list(lines_of(condition, seed, tables))


if __name__ == "__main__":
    app()
