"""Runs trials: trains what is missing, merges, renders and judges; returns a line per trial.

Trained adapters are kept on this machine and shared by trials. Another machine retrains only those
that its open trials need.
"""

import dataclasses
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from alignguard_data.storage.shards import write_bytes
from alignguard_train.adapters.lora import Lora, load_lora, save_lora, scaled
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings.encoder import EncodedPreferences
from alignguard_train.evaluation.records import EvaluatedImage, EvaluationRow
from alignguard_train.experts.trainer import train_expert, train_module
from alignguard_train.merge.config import MergeConfig
from alignguard_train.merge.room import merge_by
from alignguard_train.merge.strategies import weighted_sum
from research.study.costs import separation, with_costs
from research.study.gates import gate_weights
from research.study.subspaces import in_subspace
from research.study.trial import Gated, Merged, Trained, Trial, adapter_key, parts_of
from research.study.world import RECIPE, World, one_thread


def train(world: World, wanted: Trained) -> Path:
    """The adapter's file, trained if missing; a killed training resumes."""
    name = adapter_key(wanted)
    file = world.folder / "adapters" / f"{name}.safetensors"
    file.parent.mkdir(exist_ok=True)
    start = train(world, wanted.start) if wanted.start else None
    with FileLock(file.with_suffix(".lock")), one_thread():
        if file.is_file():
            return file
        recipe = dataclasses.replace(RECIPE, steps=wanted.steps, **dict(wanted.recipe))
        recipe = dataclasses.replace(recipe, checkpoint_every=20)
        checkpoint = file.with_suffix(".checkpoint")
        started, fresh = time.process_time(), not checkpoint.exists()
        lora = _trained(world, wanted, recipe, checkpoint, load_lora(start) if start else None)
        seconds = time.process_time() - started if fresh else None
        write_bytes(file.with_suffix(".json"), json.dumps({"seconds": seconds}).encode())
        save_lora(lora, file)
        checkpoint.unlink(missing_ok=True)
    return file


def _trained(
    world: World, wanted: Trained, recipe: ExpertRecipe, checkpoint: Path, start: Lora | None
) -> Lora:
    encoded = world.encoded(wanted.concepts, arm=wanted.arm, amount=wanted.amount)
    if recipe.cost_margin:
        encoded = with_costs(world, wanted.concepts, encoded)
    base, others = world.engines.base, _others(world, wanted, recipe)
    if wanted.subspace:
        attach = partial(in_subspace, subspace=wanted.subspace)
        return train_module(
            base, encoded, recipe, attach, seed=wanted.seed, checkpoint=checkpoint, others=others
        ).weights
    return train_expert(
        base, encoded, recipe, seed=wanted.seed, checkpoint=checkpoint, start=start, others=others
    ).lora


def _others(world: World, wanted: Trained, recipe: ExpertRecipe) -> EncodedPreferences | None:
    """Pairs of every other train concept, if the recipe preserves them."""
    if not recipe.preserve_others:
        return None
    own = [c.key for c in world.concepts if c.split == "train" and c.key not in wanted.concepts]
    return world.encoded(own)


def carry_out(world: World, trial: Trial) -> dict[str, Any]:
    """One trial's line: results per prompt as strings of 0 and 1."""
    with one_thread():
        rows = world.rows(trial.scenes, trial.measured, trial.prompts)
        if isinstance(trial.adapter, Gated):
            drawn = gated_images(world, rows, trial.adapter)
            merging, images = 0.0, world.judged(rows, drawn)
        else:
            started = time.process_time()
            lora = lora_of(world, trial.adapter)
            merging = time.process_time() - started
            images = world.judged(rows, rendered(world, rows, lora))
        seconds = [training_seconds(world, part) for part in parts_of(trial.adapter)]
        whole = None if None in seconds else sum(s for s in seconds if s is not None)
        steps = sum(part.steps for part in parts_of(trial.adapter))
        return {
            "key": trial.key,
            **{name: getattr(trial, name) for name in ("experiment", "arm", "x", "seed")},
            **{name: getattr(trial, name) for name in ("scenes", "prompts")},
            **_strings(images),
            "training_steps": steps,
            "training_cpu_seconds": whole and round(whole, 1),
            "merging_cpu_seconds": round(merging, 2),
            **_separated(world, trial),
        }


def _separated(world: World, trial: Trial) -> dict[str, float]:
    """How far the adapter separates its own pairs; only where costs are compared."""
    adapter = trial.adapter
    if trial.experiment != "costs" or not isinstance(adapter, Trained):
        return {}
    lora = load_lora(train(world, adapter))
    return separation(world, adapter.concepts, world.encoded(adapter.concepts), lora)


def lora_of(world: World, adapter: Trained | Merged | None) -> Lora | None:
    """The adapter's weights, trained and merged if they are missing; None for the base model."""
    if adapter is None:
        return None
    if isinstance(adapter, Trained):
        return load_lora(train(world, adapter))
    return merged(world, adapter)


def merged(world: World, wanted: Merged) -> Lora:
    """Merge experts; each expert's concepts form one calibration category."""
    experts = [load_lora(train(world, part)) for part in wanted.parts]
    config = MergeConfig(strategy=wanted.strategy, seed=wanted.seed, **dict(wanted.options))
    concepts = [key for part in wanted.parts for key in part.concepts]
    encoded = world.encoded(concepts)
    owner = {key: str(k) for k, part in enumerate(wanted.parts) for key in part.concepts}
    encoded = dataclasses.replace(encoded, categories=[owner[key] for key in encoded.categories])
    names, base = [str(k) for k in range(len(experts))], world.engines.base
    lora = merge_by(wanted.strategy, experts, names, base, encoded, config).lora
    return lora if wanted.scale == 1 else scaled(lora, wanted.scale)


def gated_images(world: World, rows: list[EvaluationRow], wanted: Gated) -> npt.NDArray[np.uint8]:
    """Images (rows, height, width, 3), each drawn with the experts that the gate gives it."""
    experts = [load_lora(train(world, part)) for part in wanted.parts]
    weights = gate_weights(world, wanted, rows)
    images: list[npt.NDArray[np.uint8] | None] = [None] * len(rows)
    for own in np.unique(weights, axis=0):
        chosen = np.flatnonzero((weights == own).all(axis=1))
        acting = [(lora, float(w)) for lora, w in zip(experts, own, strict=True) if w]
        lora = weighted_sum(*zip(*acting, strict=True)) if acting else None
        drawn = rendered(world, [rows[i] for i in chosen], lora)
        for i, image in zip(chosen, drawn, strict=True):
            images[i] = image
    return np.stack([image for image in images if image is not None])


def rendered(world: World, rows: list[EvaluationRow], lora: Lora | None) -> npt.NDArray[np.uint8]:
    """Images (rows, height, width, 3) by one adapter, or by the base model."""
    engines = world.engines
    prompts, seeds = [row.prompt for row in rows], [row.seed for row in rows]
    file = world.folder / "adapters" / f"measured-{id(rows)}-{time.monotonic_ns()}.safetensors"
    try:
        if lora is not None:
            file.parent.mkdir(exist_ok=True)
            save_lora(lora, file)
        with engines.generator.adapted(file if lora is not None else None):
            return engines.generator.render(prompts, seeds)
    finally:
        file.unlink(missing_ok=True)


def _strings(images: list[EvaluatedImage]) -> dict[str, str]:
    unsafe = [image for image in images if image.side == "unsafe"]
    safe = [image for image in images if image.side == "safe"]
    return {
        "flagged": _bits([image.flagged for image in unsafe]),
        "residue": _bits([image.residue for image in unsafe]),
        "right": _bits([image.fidelity for image in safe]),
    }


def _bits(values: list[Any]) -> str:
    return "".join("1" if value >= 0.5 else "0" for value in np.asarray(values, dtype=float))


def training_seconds(world: World, part: Trained) -> float | None:
    """CPU seconds of the training; None if it was interrupted."""
    file = world.folder / "adapters" / f"{adapter_key(part)}.json"
    return json.loads(file.read_text())["seconds"]
