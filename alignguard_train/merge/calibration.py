"""Activation of each expert, by layer, on unsafe prompts of all categories (Co-Merge).

One streaming pass serves all experts; memory does not grow with the number of tokens.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest

import torch
from torch import Tensor, nn

from alignguard_train.adapters.lora import Lora, LoraLayer
from alignguard_train.base import BaseModel
from alignguard_train.encodings.encoder import EncodedPreferences
from alignguard_train.merge.config import MergeConfig, Stat
from alignguard_train.merge.strategies import Activity

ROWS = 32
TOKENS = 4096
"""Layer inputs per batch; bounds the memory."""


class ActivityMeter:
    """Accumulates every expert's activation on one layer's inputs."""

    def __init__(self, layers: Sequence[LoraLayer], stat: Stat) -> None:
        self._layers = layers
        self._stat = stat
        self._total = torch.zeros(len(layers), layers[0].up.shape[0], dtype=torch.float64)
        self._inputs = 0

    def add(self, x: Tensor) -> None:
        """Add |delta_k x| of every expert k and output i.

        Args:
            x: layer inputs (..., inputs).
        """
        # Through the low rank, in small batches: a large UNet has thousands of tokens per image.
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
    """Inputs won by each expert: (experts, inputs, outputs) to (experts, outputs)."""
    best = sizes.argmax(dim=0)
    return torch.stack([(best == k).sum(dim=0) for k in range(len(sizes))])


@torch.no_grad()
def measure_activity(
    base: BaseModel, experts: Sequence[Lora], encoded: EncodedPreferences, config: MergeConfig
) -> Activity:
    """Run calibration inputs through the base model and measure every expert's activation.

    The inputs are up to ``config.calibration_pairs`` rejected images and unsafe prompts of each
    category, spread over its concepts and noised at timesteps drawn as in training.

    Args:
        base: the base model.
        experts: LoRA layers by name, of each expert.
        encoded: pairs of all categories.
        config: number and timesteps of the calibration rows, statistic and seed.

    Returns:
        Activation (experts, outputs) by layer.
    """
    meters = {
        name: ActivityMeter([lora[name] for lora in experts], config.stat) for name in experts[0]
    }

    with listening(base, {name: meter.add for name, meter in meters.items()}):
        rows = [
            row
            for category in dict.fromkeys(encoded.categories)
            for row in calibration_rows(encoded, category, config.calibration_pairs, config.seed)
        ]
        pass_inputs(base, encoded, rows, config)
    return {name: meter.result() for name, meter in meters.items()}


@contextmanager
def listening(base: BaseModel, hear: Mapping[str, Callable[[Tensor], None]]) -> Iterator[None]:
    """Pass every named layer's input to its listener within the block.

    Args:
        base: the base model.
        hear: listener of the inputs (..., inputs) by layer.

    Yields:
        Nothing.
    """

    def listen(name: str, heard: Callable[[Tensor], None]) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            heard(inputs[0])

        return base.denoiser.get_submodule(name).register_forward_pre_hook(hook)

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
    """Run the denoiser on these pairs, for the listeners of its layers.

    Inputs are rejected images with unsafe prompts, or chosen images with safe prompts, noised at
    timesteps drawn as in training.

    Args:
        base: the base model.
        encoded: the pairs.
        rows: indices into ``encoded``.
        config: timesteps per row, and seed.
        safe: pass the chosen images with safe prompts instead of the rejected with unsafe ones.
    """
    denoiser = base.denoiser
    images, prompts = (encoded.chosen, encoded.safe) if safe else (encoded.rejected, encoded.unsafe)
    generator = torch.Generator().manual_seed(config.seed)
    index = torch.tensor(rows).repeat(config.calibration_timesteps)
    height, width = images.shape[2:]
    t = base.timesteps(len(index), generator, t_max=1.0, size=(height, width))
    noise = torch.randn((len(index), *images.shape[1:]), generator=generator)
    for part, when, drawn in zip(index.split(ROWS), t.split(ROWS), noise.split(ROWS), strict=True):
        latents = images[part].to(denoiser.device, denoiser.dtype)
        noisy, time, _ = base.noised(latents, drawn.to(latents), when.to(denoiser.device))
        conditions = prompts[part].to(denoiser.device, denoiser.dtype)
        base.predict(noisy, time, base.arguments(conditions, noisy))


def calibration_rows(encoded: EncodedPreferences, category: str, most: int, seed: int) -> list[int]:
    """Up to ``most`` rows of one category, round-robin over its concepts.

    A release is sorted by category, concept and id, so its first rows are of one concept. Within a
    concept, rows are in the order of their ids, which are hashes. ``seed`` shuffles the concepts,
    for categories with more concepts than rows.

    Args:
        encoded: pairs of one or more categories.
        category: category of the rows.
        most: maximum number of rows.
        seed: for the order of the concepts.

    Returns:
        Indices into ``encoded``, the first of every concept before the second of any.
    """
    own: dict[str, list[int]] = {}
    for i, (of, concept) in enumerate(zip(encoded.categories, encoded.concepts, strict=True)):
        if of == category:
            own.setdefault(concept, []).append(i)
    order = sorted(own, key=lambda concept: _number(seed, concept))
    turns = zip_longest(*(own[concept] for concept in order))
    return [i for turn in turns for i in turn if i is not None][:most]


def _number(seed: int, concept: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{concept}".encode(), digest_size=8).digest()


def calibrated_on(
    encoded: EncodedPreferences, categories: Sequence[str], config: MergeConfig
) -> dict[str, dict[str, int]]:
    """Count the calibration rows, for the manifest.

    Args:
        encoded: pairs of all categories.
        categories: keys of the categories.
        config: number and seed of the calibration rows.

    Returns:
        Number of rows by category and concept.
    """
    return {
        category: dict(
            sorted(
                Counter(
                    encoded.concepts[i]
                    for i in calibration_rows(
                        encoded, category, config.calibration_pairs, config.seed
                    )
                ).items()
            )
        )
        for category in categories
    }
