"""Costs of the study's pairs, and how far trained adapters separate them."""

import json
import math
from dataclasses import replace

import numpy as np
import torch

from alignguard_data.contracts.records import pair_seed
from alignguard_data.standin import random_features
from alignguard_data.storage.shards import write_bytes
from alignguard_train.adapters.live import live_adapter
from alignguard_train.adapters.lora import Lora
from alignguard_train.cost_model import CostModelConfig
from alignguard_train.cost_model.gate import figures, refuse_under_gate
from alignguard_train.cost_model.head import train_head
from alignguard_train.cost_model.source import features_of
from alignguard_train.cost_model.splits import parts_of
from alignguard_train.encodings.encoder import EncodedPreferences
from alignguard_train.experts.batches import draw
from alignguard_train.experts.margins import with_margins
from alignguard_train.experts.objective import objective
from research.study.world import RECIPE, World

CONFIG = CostModelConfig()
MEDIAN = 1.0
"""Median cost margin, in logits, of the arms that have one, and the yardstick of all."""


def with_costs(
    world: World, concepts: tuple[str, ...], encoded: EncodedPreferences
) -> EncodedPreferences:
    """The filtered pairs of ``concepts`` with their costs, which are made once per machine."""
    file = world.folder / "costs.json"
    if not file.is_file():
        write_bytes(file, json.dumps(_made(world)).encode())
    known = json.loads(file.read_text())
    costs = [known[pair.pair_id] for key in concepts for pair in world.kept(key)]
    return replace(encoded, costs=torch.tensor(costs))


def _made(world: World) -> dict[str, list[float]]:
    """A cost model of the train concepts' pairs, decoded from their latents; refused if poor."""
    keys = [c.key for c in world.concepts if c.split == "train"]
    pairs = [pair for key in keys for pair in world.kept(key)]
    encoded = world.encoded(keys)
    extractor = random_features()
    safe, unsafe = (
        torch.from_numpy(features_of(extractor, list(_decoded(world, latents))))
        for latents in (encoded.chosen[:], encoded.rejected[:])
    )
    concepts = [pair.concept for pair in pairs]
    seeds = [pair_seed(pair.pair_id, "train") for pair in pairs]
    parts = np.array(parts_of(concepts, seeds, share=CONFIG.held_out_share, seed=CONFIG.seed))
    train = torch.from_numpy(np.flatnonzero(parts == "train"))
    head = train_head(safe[train], unsafe[train], CONFIG)
    costs = [head(side).double().numpy() for side in (safe, unsafe)]
    out = parts == "held_out"
    found = figures(costs[0][out], costs[1][out], list(np.array(concepts)[out]), CONFIG)
    refuse_under_gate(found, min_auc=0.9, min_right=0.8, of="the study's cost model")
    print(f"cost model: {found}")
    ids = [pair.pair_id for pair in pairs]
    return {one: [float(low), float(high)] for one, low, high in zip(ids, *costs, strict=True)}


@torch.no_grad()
def _decoded(world: World, latents: torch.Tensor) -> np.ndarray:
    vae = world.engines.base.pipe.vae
    parts = [vae.decode(part / vae.config.scaling_factor).sample for part in latents.split(64)]
    pixels = (torch.cat(parts) * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def separation(
    world: World, concepts: tuple[str, ...], encoded: EncodedPreferences, lora: Lora
) -> dict[str, float]:
    """Of an adapter's own pairs, each at one timestep: the logit, and what is left to learn.

    Args:
        world: the study's.
        concepts: whose pairs the adapter was trained on.
        encoded: those pairs.
        lora: the adapter.

    Returns:
        ``logit``, the median z; ``solved``, the share with z above the cost margin; ``left``, the
        mean of sigmoid(m - z), the share of the largest gradient that is left.
    """
    base = world.engines.base
    recipe = replace(
        RECIPE, batch_size=1, accumulation=len(encoded), preservation=0.0, cost_margin=MEDIAN
    )
    priced = with_margins(with_costs(world, concepts, encoded), recipe)
    logits, margins = [], []
    with torch.no_grad(), live_adapter(base, recipe, 0) as adapter:
        adapter.go_on_from(lora)
        for rows in draw(base, priced, recipe, seed=0, step=0):
            found = objective(base, rows, recipe, adapter)[1]["margin"].item()
            logits.append(recipe.beta / 2 * found)
            assert rows.cost_gap is not None
            margins.append(min(rows.cost_gap.item(), recipe.margin_max))
    z, m = np.array(logits), np.array(margins)
    return {
        "logit": round(float(np.median(z)), 4),
        "solved": round(float(np.mean(z > m)), 4),
        "left": round(
            float(np.mean([1 / (1 + math.exp(a - b)) for a, b in zip(z, m, strict=True)])), 4
        ),
    }
