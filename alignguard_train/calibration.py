"""How active each expert is, layer by layer, on unsafe prompts of all categories (Co-Merge).

One streaming pass over the calibration inputs serves all experts: memory does not grow with
their number of tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
            sizes = ((tokens @ e.down.T @ e.up.T).abs_() for e in self._layers)
            if self._stat == "wins":
                self._total += _wins(torch.stack(list(sizes))).double().cpu()
            else:
                for total, size in zip(self._total, sizes, strict=True):
                    total += size.sum(dim=0).double().cpu()
            self._inputs += len(tokens)

    def result(self) -> Tensor:
        """Mean over all inputs: (experts, outputs)."""
        return self._total / max(1, self._inputs)


def _wins(sizes: Tensor) -> Tensor:
    """How often each expert is the largest: (experts, inputs, outputs) to (experts, outputs)."""
    best = sizes.argmax(dim=0)
    return torch.stack([(best == k).sum(dim=0) for k in range(len(sizes))])


@torch.no_grad()
def measure_activity(
    base: BaseModel, experts: Sequence[Lora], encoded: EncodedPreferences, config: MergeConfig
) -> Activity:
    """Pass calibration inputs through the base model and meter every LoRA layer's input.

    The inputs are up to ``config.calibration_pairs`` rejected images and unsafe prompts of each
    category, noised at timesteps drawn as in training.
    """
    meters = {
        name: ActivityMeter([lora[name] for lora in experts], config.stat) for name in experts[0]
    }

    with listening(base, {name: meter.add for name, meter in meters.items()}):
        rows = rows_of_each_category(encoded.categories, config.calibration_pairs)
        pass_inputs(base, encoded, rows, config)
    return {name: meter.result() for name, meter in meters.items()}


@contextmanager
def listening(base: BaseModel, hear: Mapping[str, Callable[[Tensor], None]]) -> Iterator[None]:
    """Give every named layer's input to its listener, until the block ends."""

    def listen(name: str, heard: Callable[[Tensor], None]) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            heard(inputs[0])

        return base.pipe.unet.get_submodule(name).register_forward_pre_hook(hook)

    handles = [listen(name, heard) for name, heard in hear.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def pass_inputs(
    base: BaseModel,
    encoded: EncodedPreferences,
    rows: Sequence[int],
    config: MergeConfig,
    *,
    safe: bool = False,
) -> None:
    """Let the UNet see these pairs, for whoever listens to its layers: rejected images under
    unsafe prompts, or chosen images under safe prompts, noised at timesteps drawn as in training.
    """
    scheduler, unet = base.pipe.scheduler, base.pipe.unet
    images, prompts = (encoded.chosen, encoded.safe) if safe else (encoded.rejected, encoded.unsafe)
    generator = torch.Generator().manual_seed(config.seed)
    index = torch.tensor(rows).repeat(config.calibration_timesteps)
    t = torch.randint(scheduler.config.num_train_timesteps, index.shape, generator=generator)
    noise = torch.randn((len(index), *images.shape[1:]), generator=generator)
    for part, when, drawn in zip(index.split(ROWS), t.split(ROWS), noise.split(ROWS), strict=True):
        latents = images[part].to(unet.device, unet.dtype)
        noisy, time, _ = noised(scheduler, latents, drawn.to(latents), when.to(unet.device))
        conditions = prompts[part].to(unet.device, unet.dtype)
        unet(noisy, time, **conditions.unet_arguments(**base.pixels(noisy)), return_dict=False)


def rows_of_each_category(categories: Sequence[str], most: int) -> list[int]:
    """The first ``most`` rows of every category: release order is by id, so they are no choice."""
    taken: dict[str, int] = {}
    rows = []
    for i, category in enumerate(categories):
        taken[category] = taken.get(category, 0) + 1
        if taken[category] <= most:
            rows.append(i)
    return rows
