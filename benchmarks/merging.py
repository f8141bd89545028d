"""Seven experts of rank 4 into one on Stable Diffusion 1.5 at real size.

Seconds and peak memory, against peft's ``add_weighted_adapter`` where it computes the same.

    python -m benchmarks.merging <checkpoint> ours co-merge | ours ties | peft ties | ...
"""

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from alignguard_data.engines.families.unet import LORA_TARGETS
from alignguard_train.adapters.lora import Lora, LoraLayer
from alignguard_train.base import BaseModel
from alignguard_train.merge.calibration import measure_activity
from alignguard_train.merge.config import MergeConfig, Strategy
from alignguard_train.merge.regmean import regmean
from alignguard_train.merge.strategies import merge
from benchmarks import real_size
from benchmarks.peak import peak_bytes

EXPERTS, RANK = 7, 4
CONFIG = MergeConfig(calibration_pairs=2)
"""A quarter of the usual calibration inputs, 8 per category; seconds per input are reported too."""
PEFT: dict[Strategy, str] = {
    "average": "cat",
    "svd": "svd",
    "ties": "ties_svd",
    "dare": "dare_linear_svd",
    "magnitude": "magnitude_prune_svd",
}
"""peft's names of the same merges. Its plain ``ties``, ``linear`` and so on combine the factors A
and B separately, which does not merge the deltas."""
CALIBRATED = ("co-merge", "regmean")


def measure(runs: int) -> dict[str, float]:
    """Seconds and peak memory in GB of each strategy and of peft's, each in its own process.

    Co-Merge and RegMean pass calibration inputs through the UNet, at 16x16 latents; the others need
    no base model, but peft does. Slow ones are measured once, the rest ``runs`` times.
    """
    with real_size.checkpoint() as folder:
        return _figures(folder, runs)


def _figures(folder: Path, runs: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for strategy in ("co-merge", "regmean", *PEFT):
        repeats = runs if strategy in ("average", "svd") else 1
        ours = _median(folder, "ours", strategy, repeats)
        figures |= {f"{strategy}_{name}": value for name, value in ours.items()}
        if strategy in PEFT:
            theirs = _median(folder, "peft", strategy, 1)
            figures |= {f"{strategy}_peft_{name}": value for name, value in theirs.items()}
            figures[f"{strategy}_times_as_fast"] = theirs["seconds"] / ours["seconds"]
    return figures


def _median(folder: Path, side: str, strategy: str, runs: int) -> dict[str, float]:
    found = [
        real_size.in_own_process("benchmarks.merging", folder, side, strategy) for _ in range(runs)
    ]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def random_experts(network: nn.Module, count: int, rank: int) -> list[Lora]:
    """Experts of random weights for every attention projection of a network."""
    draw = torch.Generator().manual_seed(0)
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and name.endswith(LORA_TARGETS)
    }
    return [
        {
            name: LoraLayer(
                torch.randn(rank, layer.in_features, generator=draw) / rank,
                torch.randn(layer.out_features, rank, generator=draw) * 0.01,
            )
            for name, layer in layers.items()
        }
        for _ in range(count)
    ]


def peft_model(network: nn.Module, experts: Sequence[Lora]) -> PeftModel:
    """The network with every expert attached, named by its number."""
    rank = next(iter(experts[0].values())).down.shape[0]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=sorted(experts[0]))
    model: Any = get_peft_model(network, config, adapter_name="0")  # pyright: ignore
    for number in range(1, len(experts)):
        model.add_adapter(str(number), config)
    for number, lora in enumerate(experts):
        for name, layer in lora.items():
            target = model.base_model.model.get_submodule(name)
            target.lora_A[str(number)].weight.data.copy_(layer.down)
            target.lora_B[str(number)].weight.data.copy_(layer.up)
    return model


def merge_with_peft(
    model: PeftModel, strategy: Strategy, count: int, rank: int, config: MergeConfig
) -> None:
    """Merge with peft into the adapter ``merged`` on the model."""
    weight = {"average": 1 / count, "ties": 1.0, "dare": 1.0}.get(strategy, config.sum_scale)
    svd: dict[str, Any] = {"svd_rank": rank if strategy == "svd" else count * rank}
    density = {} if strategy in ("average", "svd") else {"density": config.density}
    model.base_model.add_weighted_adapter(  # pyright: ignore
        [str(number) for number in range(count)], [weight] * count, "merged",
        combination_type=PEFT[strategy], **({} if strategy == "average" else svd), **density,
    )  # fmt: skip


def _ours(folder: str, strategy: Strategy) -> dict[str, float]:
    if strategy not in CALIBRATED:
        with torch.device("meta"):
            network = real_size.unet()
        experts = random_experts(network, EXPERTS, RANK)
        started = time.perf_counter()
        merge(strategy, experts, {}, CONFIG)
        return {"seconds": time.perf_counter() - started}
    base = BaseModel(model=folder, device="cpu")
    experts = random_experts(base.pipe.unet, EXPERTS, RANK)
    names = [str(number) for number in range(EXPERTS)]
    encoded = real_size.random_encodings(
        [n for n in names for _ in range(CONFIG.calibration_pairs)]
    )
    before = peak_bytes() / 1e9
    started = time.perf_counter()
    if strategy == "regmean":
        regmean(base, experts, names, encoded, CONFIG)
        return {"seconds": time.perf_counter() - started, "peak_before": before}
    activity = measure_activity(base, experts, encoded, CONFIG)
    calibration = time.perf_counter() - started
    merge(strategy, experts, activity, CONFIG)
    inputs = len(encoded) * CONFIG.calibration_timesteps
    return {
        "seconds": time.perf_counter() - started,
        "calibration_seconds_an_input": calibration / inputs,
        "peak_before": before,
    }


def _peft(folder: str, strategy: Strategy) -> dict[str, float]:
    network = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", use_safetensors=True)
    model = peft_model(network, random_experts(network, EXPERTS, RANK))
    before = peak_bytes() / 1e9
    started = time.perf_counter()
    merge_with_peft(model, strategy, EXPERTS, RANK, CONFIG)
    return {"seconds": time.perf_counter() - started, "peak_before": before}


if __name__ == "__main__":
    torch.set_num_threads(real_size.THREADS)
    where, side, name = sys.argv[1:]
    chosen = next(s for s in get_args(Strategy) if s == name)
    real_size.report((_ours if side == "ours" else _peft)(where, chosen))
