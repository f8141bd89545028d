"""How active each expert is, layer by layer, on unsafe prompts of all categories (Co-Merge).

One streaming pass over the calibration inputs serves all experts: memory does not grow with
their number of tokens.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from alignguard_data.backends.conditions import Conditions
from alignguard_train.adapter import Lora, LoraLayer
from alignguard_train.base import BaseModel
from alignguard_train.dataset import EncodedPreferences
from alignguard_train.merge import Activity
from alignguard_train.objective import noised
from alignguard_train.recipes import MergeConfig, Stat

ROWS = 32
TOKENS = 4096
"""Inputs of a layer that are measured together; bounds the memory."""


class ActivityMeter:
    """Accumulates, for one layer, every expert's activation on the inputs that pass it."""

    def __init__(self, layers: Sequence[LoraLayer], stat: Stat) -> None:
        self._layers = layers
        self._stat = stat
        self._total = torch.zeros(len(layers), layers[0].up.shape[0], dtype=torch.float64)
        self._inputs = 0

    def add(self, x: Tensor) -> None:
        """Layer inputs (..., inputs): add |delta_k x| of every expert k and output i."""
        # Through the low rank, and few tokens at a time: a large UNet has thousands an image.
        for tokens in x.reshape(-1, x.shape[-1]).split(TOKENS):
            size = torch.stack([(tokens @ e.down.T @ e.up.T).abs() for e in self._layers], dim=1)
            if self._stat == "wins":
                best = size.argmax(dim=1, keepdim=True)
                size = torch.zeros_like(size).scatter_(1, best, 1.0)
            self._total += size.sum(dim=0).double().cpu()
            self._inputs += len(tokens)

    def result(self) -> Tensor:
        """Mean over all inputs: (experts, outputs)."""
        return self._total / max(1, self._inputs)


@torch.no_grad()
def measure_activity(
    base: BaseModel, experts: Sequence[Lora], encoded: EncodedPreferences, config: MergeConfig
) -> Activity:
    """Pass calibration inputs through the base model and meter every LoRA layer's input.

    The inputs are up to ``config.calibration_pairs`` rejected images and unsafe prompts of each
    category, noised at timesteps drawn as in training.
    """
    unet = base.pipe.unet
    meters = {
        name: ActivityMeter([lora[name] for lora in experts], config.stat) for name in experts[0]
    }

    def listen(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            meters[name].add(inputs[0])

        return unet.get_submodule(name).register_forward_pre_hook(hook)

    handles = [listen(name) for name in meters]
    try:
        for noisy, t, conditions in _inputs(base, encoded, config):
            arguments = conditions.unet_arguments(**base.pixels(noisy))
            unet(noisy, t, **arguments, return_dict=False)
    finally:
        for handle in handles:
            handle.remove()
    return {name: meter.result() for name, meter in meters.items()}


def _inputs(
    base: BaseModel, encoded: EncodedPreferences, config: MergeConfig
) -> Iterator[tuple[Tensor, Tensor, Conditions]]:
    scheduler, unet = base.pipe.scheduler, base.pipe.unet
    generator = torch.Generator().manual_seed(config.seed)
    chosen = _rows_of_each_category(encoded.categories, config.calibration_pairs)
    index = torch.tensor(chosen).repeat(config.calibration_timesteps)
    t = torch.randint(scheduler.config.num_train_timesteps, index.shape, generator=generator)
    noise = torch.randn((len(index), *encoded.rejected.shape[1:]), generator=generator)
    for rows, when, drawn in zip(index.split(ROWS), t.split(ROWS), noise.split(ROWS), strict=True):
        latents = encoded.rejected[rows].to(unet.device, unet.dtype)
        noisy, time, _ = noised(scheduler, latents, drawn.to(latents), when.to(unet.device))
        yield noisy, time, encoded.unsafe[rows].to(unet.device, unet.dtype)


def _rows_of_each_category(categories: Sequence[str], most: int) -> list[int]:
    """The first ``most`` rows of every category: release order is by id, so they are no choice."""
    taken: dict[str, int] = {}
    rows = []
    for i, category in enumerate(categories):
        taken[category] = taken.get(category, 0) + 1
        if taken[category] <= most:
            rows.append(i)
    return rows
