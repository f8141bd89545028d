"""An expert's adapter during training: on the base model's denoiser, switchable."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.adapters.lora import Lora, LoraLayer
from alignguard_train.base import BaseModel
from alignguard_train.contracts.noise import seeded
from alignguard_train.contracts.recipes import ExpertRecipe

_NAME = "expert"


@dataclass(frozen=True, slots=True)
class LiveAdapter:
    """A trainable adapter on the denoiser.

    Attributes:
        parameters: float32 weights by their names in the denoiser.
        layers: the modules that hold them.
    """

    parameters: dict[str, nn.Parameter]
    layers: tuple[Any, ...]

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switch the adapter off within the block: the reference, without gradient.

        diffusers' switch walks every module and peft's toggles every weight's gradient; together
        they cost a sixth of a small step.

        Yields:
            Nothing.
        """
        for layer in self.layers:
            layer._disable_adapters = True
        try:
            yield
        finally:
            for layer in self.layers:
                layer._disable_adapters = False

    def conditioned(self, conditions: Conditions, about: Tensor | None) -> Conditions:
        """The conditions unchanged: of a row, a LoRA reads only its caption."""
        return conditions

    def weights(self) -> Lora:
        """Copy of the weights."""
        down = {n.split(".lora_A.")[0]: p for n, p in self.parameters.items() if ".lora_A." in n}
        up = {n.split(".lora_B.")[0]: p for n, p in self.parameters.items() if ".lora_B." in n}
        return {
            name: LoraLayer(down[name].detach().clone(), up[name].detach().clone())
            for name in sorted(down)
        }

    def go_on_from(self, start: Lora) -> None:
        """Load another adapter's weights.

        Args:
            start: LoRA layers by name; each has down (rank, in) and up (out, rank).

        Raises:
            EngineError: the layers or the rank differ.
        """
        values = {}
        for name, layer in start.items():
            values[f"{name}.lora_A.{_NAME}.weight"] = layer.down
            values[f"{name}.lora_B.{_NAME}.weight"] = layer.up
        shapes = {name: tuple(value.shape) for name, value in values.items()}
        wanted = {name: tuple(value.shape) for name, value in self.parameters.items()}
        if shapes != wanted:
            odd = sorted(set(shapes.items()) ^ set(wanted.items()))[:2]
            raise EngineError(f"the adapter to start from does not fit the recipe: {odd}")
        for name, value in values.items():
            self.parameters[name].data.copy_(value)


@contextmanager
def live_adapter(base: BaseModel, recipe: ExpertRecipe, seed: int) -> Iterator[LiveAdapter]:
    """Put a new adapter on the denoiser, and remove it at the end of the block.

    Args:
        base: the base model.
        recipe: which layers, and the rank.
        seed: of the down matrices, which are drawn from a Gaussian; the up matrices are 0.

    Yields:
        The adapter, switched on.
    """
    denoiser, family = base.denoiser, base.family
    everywhere = recipe.layers == "attention"
    targets = family.lora_targets if everywhere else family.self_attention_targets
    denoiser.add_adapter(
        LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.rank,
            init_lora_weights="gaussian",
            target_modules=list(targets),
        ),
        adapter_name=_NAME,
    )
    try:
        parameters = {n: p for n, p in denoiser.named_parameters() if f".{_NAME}." in n}
        layers = tuple(m for m in denoiser.modules() if isinstance(m, BaseTunerLayer))
        if recipe.gradient_checkpointing:
            denoiser.enable_gradient_checkpointing()
        generator = seeded("init", seed, 0)
        for name, parameter in parameters.items():
            if "lora_A" in name:
                # peft draws from the global generator; here the seed decides the start.
                drawn = torch.randn(parameter.shape, generator=generator) / recipe.rank
                parameter.data.copy_(drawn)
            parameter.data = parameter.data.float()  # whatever the base model's precision
            parameter.requires_grad_(True)
        yield LiveAdapter(parameters, layers)
    finally:
        denoiser.disable_gradient_checkpointing()
        denoiser.delete_adapters(_NAME)
