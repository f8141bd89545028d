"""Variants of the expert recipe, trained on the stand-in's release and measured on new prompts.

Run `make run` first, then `python -m benchmarks.sweep_experts beta100 beta5`. The prompts use
another writer seed than the evaluation's, so no choice is made on those. Appends to
benchmarks/sweep.jsonl and draws benchmarks/sweep.png.
"""

import dataclasses
import json
import multiprocessing as mp
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import typer
from rich.console import Console

from alignguard_data.release.reader import release_folder
from alignguard_train.adapters.lora import Lora, save_lora
from alignguard_train.contracts.intervals import Bootstrap
from alignguard_train.contracts.recipes import ExpertRecipe, standin_expert
from alignguard_train.encodings.encoder import encode, load_preferences
from alignguard_train.evaluation.judge import judge
from alignguard_train.evaluation.records import EvaluationRow
from alignguard_train.evaluation.statistics import ip
from alignguard_train.experts.trainer import HISTORY, train_expert
from alignguard_train.merge.calibration import measure_activity
from alignguard_train.merge.config import Strategy
from alignguard_train.merge.strategies import merge
from benchmarks.fresh_prompts import fresh_rows
from pipelines.profile import load_profile
from pipelines.profile_sections import Engine
from pipelines.resources import Engines, data_root
from pipelines.room_inputs import merged_keys

RESULTS = Path(__file__).parent / "sweep.jsonl"
PLOT = Path(__file__).parent / "sweep.png"
DEVELOPMENT_SEED = 1000
VARIANTS: dict[str, dict[str, Any]] = {
    "shipped": {},
    "beta100": {"beta": 100.0},
    "beta30": {"beta": 30.0},
    "beta5": {"beta": 5.0},
    "no-preservation": {"preservation": 0.0},
    "beta30-slow": {"beta": 30.0, "preservation": 2.0, "lr": 1e-3, "steps": 150},
}
STRATEGIES: tuple[Strategy, ...] = ("co-merge", "average", "sum", "ties", "dare")


def _train(job: tuple[str, ExpertRecipe, int]) -> tuple[Lora, np.ndarray]:
    category, recipe, seed = job
    torch.set_num_threads(1)
    engines = Engines(load_profile("standin"), data_root())
    encoded = encode(load_preferences(release_folder(engines.data), [category]), engines.base)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.safetensors"
        trained = train_expert(engines.base, encoded, recipe, seed=seed, checkpoint=checkpoint)
    return trained.lora, trained.history.numpy()


def development_rows(engines: Engines, number: int) -> list[EvaluationRow]:
    """Prompts of every concept, disjoint from training and evaluation."""
    writer = Engine(use=engines.profile.writer.use, params={"seed": DEVELOPMENT_SEED}).build()
    return fresh_rows(writer, engines.taxonomy.concepts, range(number))


def measure(engines: Engines, rows: list[EvaluationRow], lora: Lora) -> dict[str, Any]:
    """IP on seen and unseen concepts, residue, and scenes right on safe prompts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lora.safetensors"
        save_lora(lora, path)
        with engines.generator.adapted(path):
            images = engines.generator.render([r.prompt for r in rows], [r.seed for r in rows])
    config = engines.profile.evaluation
    judged = judge("sweep", rows, images, engines.evaluation_scorers, config, None)
    found: dict[str, Any] = {}
    for name, seen in (("seen", True), ("unseen", False)):
        part = [row for row in judged if row.side == "unsafe" and row.seen == seen]
        interval = ip([row.flagged for row in part], [row.pair_id for row in part], Bootstrap())
        found[f"ip_{name}"] = interval.as_dict()
        found[f"residue_{name}"] = float(np.mean([row.residue for row in part]))
    found["scenes_right"] = float(np.mean([row.fidelity for row in judged if row.side == "safe"]))
    return found


def main(
    variants: Annotated[list[str], typer.Argument(help=f"Of {', '.join(VARIANTS)}.")],
    seed: Annotated[int, typer.Option(help="Training seed.")] = 0,
    prompts: Annotated[int, typer.Option(help="Development prompts per concept.")] = 5,
) -> None:
    """Train every category's expert with each variant, merge by each strategy, measure, plot."""
    console = Console()
    engines = Engines(load_profile("standin"), data_root())
    rows = development_rows(engines, prompts)
    keys = merged_keys(engines)
    histories = {}
    for variant in variants:
        recipe = dataclasses.replace(standin_expert(), **VARIANTS[variant])
        with ProcessPoolExecutor(2, mp_context=mp.get_context("spawn")) as pool:
            trained = list(pool.map(_train, [(key, recipe, seed) for key in keys]))
        experts = [lora for lora, _ in trained]
        histories[variant] = np.mean([history for _, history in trained], axis=0)
        config = engines.profile.merge
        encoded = encode(load_preferences(release_folder(engines.data), keys), engines.base)
        activity = measure_activity(engines.base, experts, encoded, config)
        for strategy in STRATEGIES:
            found = measure(engines, rows, merge(strategy, experts, activity, config).lora)
            line = {"variant": variant, "seed": seed, "strategy": strategy, **found}
            with RESULTS.open("a") as handle:
                handle.write(json.dumps(line) + "\n")
            console.print(line)
    draw(histories)


def draw(histories: dict[str, np.ndarray]) -> None:
    """Mean curves over the experts: loss, margin, both sides' errors minus the reference's."""
    figure, panels = plt.subplots(1, 4, figsize=(14, 3.2), layout="constrained")
    column = {name: i for i, name in enumerate(HISTORY)}
    for variant, h in histories.items():
        shown = {
            "DPO loss": h[:, column["dpo"]],
            "margin": h[:, column["margin"]],
            "chosen error minus reference": h[:, column["e_w"]] - h[:, column["e_w_ref"]],
            "distance to reference (safe)": h[:, column["preservation"]],
        }
        for axes, (title, values) in zip(panels, shown.items(), strict=True):
            smooth = np.convolve(values, np.ones(7) / 7, mode="valid")
            axes.plot(smooth, label=variant, linewidth=1.4)
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_xlabel("step")
            axes.grid(alpha=0.25)
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    typer.run(main)
